//! Running a case, and making a case that fails as short as it can be.

use std::fmt;
use std::time::{Duration, Instant};

use actionflow_tests::{Cluster, Database, Session};

use super::draw::literal;
use super::history::{Case, Step, script};

/// A failing test is allowed to take this much longer.
const SHRINKING: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Failure {
    /// The number of the step, from 0.
    step: usize,
    what: Vec<String>,
    /// What a failure of the same cause shares with this one.
    class: String,
    details: String,
}

/// Runs a case; when it fails, says so with the shortest history found that does.
pub(crate) async fn run(seed: u64, case: &Case) -> Result<(), String> {
    let Err(failure) = attempt(case, &case.steps).await else {
        return Ok(());
    };
    let (steps, failure) = shrink(case, failure).await;
    let report = format!(
        "seed {seed}, {} of {} steps needed, {failure}",
        steps.len(),
        case.steps.len()
    );
    let file = std::env::temp_dir().join(format!("actionflow-segments-{seed}.sql"));
    let comment: String = report.lines().map(|line| format!("-- {line}\n")).collect();
    let written = std::fs::write(&file, comment + &script(case, &steps));
    let place = written.map_or_else(|error| error.to_string(), |()| file.display().to_string());
    Err(format!("{report}\nscript: {place}"))
}

async fn attempt(case: &Case, steps: &[Step]) -> Result<(), Failure> {
    let mut db = Database::within(Cluster::shared()).await;
    // Their statements may well be refused in a case that is being made shorter.
    db.expect_in_log("app=actionflow-tests");
    db.sql
        .run("select actionflow.grant_app('actionflow_writer')")
        .await;
    // A statement that never ends is a failure like any other.
    db.sql
        .run(&format!(
            "alter database {} set statement_timeout = '20s'",
            db.name()
        ))
        .await;
    let sessions = [db.session().await, db.session().await];
    for statement in &case.setup {
        db.sql.run(statement).await;
    }
    for session in &sessions {
        session.run("select public.set_clock(0)").await;
    }
    for (number, step) in steps.iter().enumerate() {
        if let Err((what, class)) = perform(step, &sessions).await {
            let details = details(case, step, &what, &db.sql).await;
            return Err(Failure {
                step: number,
                what,
                class,
                details,
            });
        }
    }
    Ok(())
}

/// Runs one step and looks at what has become of it: what is wrong, and of which class it is.
async fn perform(step: &Step, sessions: &[Session; 2]) -> Result<(), (Vec<String>, String)> {
    let run = async |session: &Session, sql: &str| {
        session.try_rows(sql).await.map_err(|error| {
            (
                vec![format!("{sql}\nfailed: {error:#?}")],
                format!("error {}", error.message),
            )
        })
    };
    if let Some(sql) = &step.everywhere {
        for session in sessions {
            run(session, sql).await?;
        }
    }
    let session = &sessions[step.session];
    for sql in &step.statements {
        run(session, sql).await?;
    }
    let problems = run(
        session,
        &format!("select * from public.problems({})", step.is_single),
    )
    .await?;
    match problems.first() {
        None => Ok(()),
        Some(first) => {
            let class = first.split('|').next().unwrap_or_default().to_owned();
            Err((problems, class))
        }
    }
}

/// The segment of the first problem, its rule, and the row.
async fn details(case: &Case, step: &Step, what: &[String], sql: &Session) -> String {
    let mut details = format!("session {} ran:\n", step.session);
    for statement in step.everywhere.iter().chain(&step.statements) {
        details += &format!("    {};\n", shortened(statement));
    }
    let fields: Vec<&str> = what
        .first()
        .map_or("", String::as_str)
        .rsplitn(3, '|')
        .collect();
    let [user, segment, _] = fields[..] else {
        return details;
    };
    let queries = [
        (
            "rule",
            format!(
                "select s.rule from actionflow.segments as s where s.name = {}",
                literal(segment)
            ),
        ),
        (
            "sql",
            format!(
                "select actionflow.segment_sql(s.rule) from actionflow.segments as s where s.name = {}",
                literal(segment)
            ),
        ),
        (
            "oracle",
            format!(
                "select o.sql from public.oracle_segment as o where o.name = {}",
                literal(segment)
            ),
        ),
        (
            "row",
            format!(
                "select t.* from {} as t where {} = {}",
                case.table,
                case.id_text,
                literal(user)
            ),
        ),
        (
            "events",
            format!(
                "select e.name, e.at, e.properties from public.event_log as e where e.user_id = {} order by e.at",
                literal(user)
            ),
        ),
    ];
    for (name, query) in queries {
        let rows = sql
            .try_rows(&query)
            .await
            .map_or_else(|error| error.message, |rows| rows.join("\n    "));
        details += &format!("{name}:\n    {}\n", shortened(&rows));
    }
    details
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(4_000) {
        Some((place, _)) => format!("{}…", &text[..place]),
        None => text.to_owned(),
    }
}

/// Leaves out one step after another for as long as the case still fails alike.
async fn shrink(case: &Case, mut failure: Failure) -> (Vec<Step>, Failure) {
    let mut steps = case.steps[..=failure.step].to_vec();
    let deadline = Instant::now() + SHRINKING;
    let mut place = steps.len() - 1;
    while place > 0 && Instant::now() < deadline {
        place -= 1;
        let mut fewer = steps.clone();
        let left_out = fewer.remove(place);
        // The clock stays moved for what comes later.
        if let (Some(_), Some(next)) = (&left_out.everywhere, fewer.get_mut(place))
            && next.everywhere.is_none()
        {
            next.everywhere = left_out.everywhere;
        }
        if let Err(found) = attempt(case, &fewer).await
            && found.class == failure.class
        {
            fewer.truncate(found.step + 1);
            place = place.min(fewer.len() - 1);
            (steps, failure) = (fewer, found);
        }
    }
    (steps, failure)
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what: Vec<String> = self
            .what
            .iter()
            .take(10)
            .map(|line| shortened(line))
            .collect();
        write!(
            formatter,
            "step {}:\n{}\n{}",
            self.step + 1,
            what.join("\n"),
            self.details
        )
    }
}
