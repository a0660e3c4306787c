//! The SQL in the documents is run as it stands there, in order, and what it prints is compared.

use std::path::Path;

use actionflow_tests::{Cluster, Database};
use serde_json::Value;

/// A fenced `sql` block, and the `output` block after it if there is one.
struct Example {
    line: usize,
    sql: String,
    output: Option<String>,
}

fn examples(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        let text = block.join("\n");
        match language {
            "sql" => examples.push(Example {
                line: number + 1,
                sql: text,
                output: None,
            }),
            "output" => {
                let last = examples
                    .last_mut()
                    .expect("an output block follows an sql block");
                last.output = Some(text);
            }
            _ => {}
        }
    }
    examples
}

/// Compares line by line, without rules and row counts; `…` in what is expected stands for
/// anything that differs from run to run.
fn agrees(printed: &str, expected: &str) -> bool {
    let (printed, expected) = (significant(printed), significant(expected));
    printed.len() == expected.len()
        && printed
            .iter()
            .zip(&expected)
            .all(|(printed, expected)| fits(printed, expected))
}

/// The lines that say something, with single spaces.
fn significant(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let is_rule = |line: &str| line.chars().all(|letter| "-+".contains(letter));
    let is_count =
        |line: &str| line.starts_with('(') && (line.ends_with(" row)") || line.ends_with(" rows)"));
    lines
        .filter(|line| !is_rule(line) && !is_count(line))
        .collect()
}

fn fits(line: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('…') else {
        return line == pattern;
    };
    let Some(line) = line.strip_prefix(start) else {
        return false;
    };
    (0..=line.len())
        .filter(|at| line.is_char_boundary(*at))
        .any(|at| fits(&line[at..], rest))
}

fn read(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

async fn check(path: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let document = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
    let examples = examples(&document);
    assert!(!examples.is_empty(), "{path} has no example");
    // Examples may make roles, which belong to a cluster.
    let cluster = Cluster::own();
    let mut db = Database::bare(&cluster).await;
    db.expect_in_log("");
    for Example { line, sql, output } in examples {
        let printed = db
            .psql_aligned(&sql)
            .unwrap_or_else(|error| panic!("{path}:{line}: {sql}\n{error}"));
        if let Some(expected) = output {
            assert!(
                agrees(&printed, &expected),
                "{path}:{line} prints\n{printed}\ninstead of\n{expected}"
            );
        }
    }
}

#[tokio::test]
async fn the_examples_of_the_readme_work() {
    check("README.md").await;
}

#[tokio::test]
async fn the_examples_of_the_sql_reference_work() {
    check("docs/sql-api.md").await;
}

#[tokio::test]
async fn the_examples_of_the_page_on_enrich_work() {
    check("docs/enrich.md").await;
}

#[tokio::test]
async fn the_examples_of_the_page_on_segments_work() {
    check("docs/segments.md").await;
}

#[tokio::test]
async fn the_examples_of_the_page_on_webhooks_work() {
    check("docs/webhooks.md").await;
}

#[tokio::test]
async fn the_examples_of_the_page_on_http_work() {
    check("docs/http-api.md").await;
}

/// Of each preset the table says what is signed and how; in the words of the preset itself, so that neither can go its own way.
#[test]
fn the_table_of_presets_is_complete_and_true() {
    let presets: Value =
        serde_json::from_str(&read("core/src/signature/presets.json")).expect("presets are JSON");
    let page = read("docs/webhooks.md");
    let (_, table) = page.split_once("### Presets").expect("there is a table");
    let (table, _) = table.split_once("## Mappings").expect("the table ends");
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let presets = presets.as_object().expect("presets have names");
    assert_eq!(rows.len(), presets.len(), "rows and presets");
    for (name, preset) in presets {
        let row = rows
            .iter()
            .find(|row| row.starts_with(&format!("| `{name}` |")))
            .unwrap_or_else(|| panic!("no row for {name}"));
        let data = &preset["data"];
        let signature = &data["signature"];
        let mut words = vec![
            &preset["algorithm"],
            &preset["digest"],
            &signature["header"],
            &signature["headers"][0],
            &signature["parsePrefix"],
            &data["id"]["header"],
            &data["id"]["json"],
        ];
        // Eight fields of the body are more than a cell can hold.
        if name != "adyen" {
            words.push(&preset["template"]);
        }
        for word in words.into_iter().filter_map(Value::as_str) {
            assert!(row.contains(word), "{name}: no {word} in {row}");
        }
        if !data["timestamp"].is_null() {
            let oldest = preset["tolerance"].as_i64().unwrap_or(300);
            assert!(
                row.contains(&format!("| {oldest} |")),
                "{name}: oldest in {row}"
            );
        }
        let is_unsure = preset["note"]
            .as_str()
            .is_some_and(|note| note.starts_with("Not sure"));
        assert_eq!(
            row.contains("**Not sure**"),
            is_unsure,
            "{name}: whether it is sure"
        );
    }
}

#[tokio::test]
async fn every_public_object_is_commented_and_has_an_example() {
    let db = Database::new().await;
    let undescribed = "
        select distinct proname as name from pg_proc
        where pronamespace = 'actionflow'::regnamespace and proname !~ '^_'
            and coalesce(obj_description(oid, 'pg_proc'), '') = ''
        union
        select relname from pg_class
        where relnamespace = 'actionflow'::regnamespace and relname !~ '^_' and relkind in ('r', 'v')
            and coalesce(obj_description(oid, 'pg_class'), '') = ''
        order by name";
    let undescribed = db.sql.rows(undescribed).await;
    assert!(undescribed.is_empty(), "without a comment: {undescribed:?}");

    let public = "
        select distinct proname from pg_proc where pronamespace = 'actionflow'::regnamespace and proname !~ '^_'
        union
        select relname from pg_class
        where relnamespace = 'actionflow'::regnamespace and relname !~ '^_' and relkind in ('r', 'v')
        order by 1";
    let reference = read("docs/sql-api.md") + "\n" + &read("docs/segments.md");
    let examples: String = examples(&reference)
        .iter()
        .map(|example| example.sql.as_str())
        .collect();
    let mut missing = db.sql.rows(public).await;
    missing.retain(|name| !examples.contains(&format!("actionflow.{name}")));
    assert!(
        missing.is_empty(),
        "without an example in the reference: {missing:?}"
    );
}

#[test]
fn an_ellipsis_stands_for_what_differs() {
    assert!(agrees(
        " a | b \n---+---\n 1 | whsec_xyz\n",
        "a | b\n1 | whsec_…"
    ));
    assert!(agrees("x 17 y\n(1 row)", "x … y"));
    assert!(agrees("1 a 2 b", "… a … b"));
    assert!(!agrees("x 17 z", "x … y"));
    assert!(!agrees("x\ny", "x"));
}
