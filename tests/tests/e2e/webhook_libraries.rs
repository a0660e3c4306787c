//! Requests signed by the senders' own libraries, or those of their receivers, over HTTP: actionflow accepts exactly what the
//! libraries accept, and refuses what is old besides.

use std::time::SystemTime;

use actionflow_tests::{Database, Oracle};
use serde_json::{Value, json};

use crate::scene::unix_seconds;
use crate::webhook_senders::{
    Library, MARK, senders_in_node, senders_in_python, senders_with_key_pairs,
};
use crate::webhook_stage::{Hook, Sent, Stage};

/// The character whose value in hex or base64 differs by the last bit.
fn flipped(character: char) -> char {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let index = DIGITS.find(character).expect("a digit of base64");
    char::from(DIGITS.as_bytes()[index ^ 1])
}

/// A text with its tenth character from the end changed by one bit.
fn with_one_bit(text: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let place = characters.len().saturating_sub(10);
    let place = (place..characters.len())
        .find(|&i| characters[i].is_ascii_alphanumeric())
        .expect("a letter");
    characters[place] = flipped(characters[place]);
    characters.into_iter().collect()
}

/// A request, and whether it is to be believed.
struct Attempt {
    what: &'static str,
    headers: Value,
    body: String,
    ours: bool,
    /// `None`: libraries differ.
    theirs: Option<bool>,
}

impl Attempt {
    /// What may be done to a good request.
    fn of(library: &Library, signed: &[Value], time: u64) -> Vec<Self> {
        let attempt = |what, signed: &Value, ours, theirs| {
            let mut headers = signed.clone();
            let body = headers
                .as_object_mut()
                .and_then(|headers| headers.remove("body"));
            let body = body.as_ref().and_then(Value::as_str).map(str::to_owned);
            Self {
                what,
                headers,
                body: body.unwrap_or_else(|| library.body()),
                ours,
                theirs,
            }
        };
        let [good, other_secret, old, early] = signed else {
            panic!("four are signed")
        };
        let mut attempts = vec![attempt("good", good, true, Some(true))];
        let mut body = attempt("a bit of the body", good, false, Some(false));
        body.body = body.body.replace(MARK, &MARK.replace('k', "j"));
        attempts.push(body);
        if !library.header.is_empty() {
            let mut signature = attempt("a bit of the signature", good, false, Some(false));
            let header = &mut signature.headers[library.header];
            *header = json!(with_one_bit(header.as_str().expect("a text")));
            attempts.push(signature);
            let mut missing = attempt("no signature", good, false, Some(false));
            missing.headers[library.header].take();
            attempts.push(missing);
        }
        let has_time = good.to_string().contains(&time.to_string());
        if has_time {
            let moved = good
                .to_string()
                .replace(&time.to_string(), &(time - 1).to_string());
            let moved = serde_json::from_str(&moved).expect("still JSON");
            attempts.push(attempt("another time", &moved, false, Some(false)));
            attempts.push(attempt("old", old, false, None));
            attempts.push(attempt("of the future", early, false, None));
        }
        if !library.secret.is_empty() {
            attempts.push(attempt(
                "a bit of the secret",
                other_secret,
                false,
                Some(false),
            ));
        }
        attempts
    }

    fn sent(&self, form: bool) -> Sent {
        let sent = match form {
            true => Sent::form(&self.body),
            false => Sent::new("application/json; charset=utf-8", self.body.as_str()),
        };
        let headers = self.headers.as_object().expect("an object").iter();
        headers
            .filter_map(|(name, value)| Some((name, value.as_str()?)))
            .fold(sent, |sent, (name, value)| sent.header(name, value))
    }

    fn check_job(&self, library: &Library, time: u64) -> Value {
        let mut job = library.job(time);
        job["task"] = json!("verify");
        job["library"] = json!(library.verify.1);
        job["headers"] = self.headers.clone();
        if let Some(headers) = job["headers"].as_object_mut() {
            headers.retain(|_, value| value.is_string());
        }
        job["body"] = json!(self.body);
        job
    }
}

/// The results of jobs, each by its own oracle, which is started once: loading libraries takes longer than using them.
async fn results(jobs: &[(Oracle, Value)]) -> Vec<Value> {
    let mut results = vec![Value::Null; jobs.len()];
    for oracle in [Oracle::Python, Oracle::Node] {
        let places: Vec<usize> = (0..jobs.len())
            .filter(|&place| jobs[place].0 == oracle)
            .collect();
        let own: Vec<Value> = places.iter().map(|&place| jobs[place].1.clone()).collect();
        for (place, result) in places.into_iter().zip(oracle.results(&own).await) {
            results[place] = result;
        }
    }
    results
}

/// What is signed for the attempts of [`Attempt::of`].
fn signing_jobs(library: &Library, time: u64) -> [(Oracle, Value); 4] {
    let mut other_secret = library.job(time);
    if !library.secret.is_empty() {
        let secret = other_secret[library.secret].as_str().expect("a text");
        other_secret[library.secret] = json!(with_one_bit(secret));
    }
    let old = library.job(time - 400);
    [
        library.job(time),
        other_secret,
        old,
        library.job(time + 400),
    ]
    .map(|job| (library.sign.0, job))
}

/// Attempts for each library, about which the libraries themselves think as expected.
async fn attempts(libraries: &[Library]) -> Vec<Vec<Attempt>> {
    let time = unix_seconds(SystemTime::now());
    let jobs = libraries
        .iter()
        .flat_map(|library| signing_jobs(library, time));
    let signed = results(&jobs.collect::<Vec<_>>()).await;
    let attempts: Vec<Vec<Attempt>> = libraries
        .iter()
        .zip(signed.chunks(4))
        .map(|(library, signed)| Attempt::of(library, signed, time))
        .collect();
    let all = || {
        let pairs = libraries.iter().zip(&attempts);
        pairs.flat_map(|(library, attempts)| attempts.iter().map(move |attempt| (library, attempt)))
    };
    let checks =
        all().map(|(library, attempt)| (library.verify.0, attempt.check_job(library, time)));
    let theirs = results(&checks.collect::<Vec<_>>()).await;
    for ((library, attempt), theirs) in all().zip(theirs) {
        let expected = attempt.theirs.unwrap_or(theirs == true);
        assert_eq!(
            theirs, expected,
            "{} itself about {}",
            library.verify.1, attempt.what
        );
    }
    attempts
}

async fn hook_for(stage: &Stage<'_>, library: &Library) -> Hook {
    // A customer for each: they use the same id.
    let user = format!("{} {}", library.sign.1, library.header);
    let mapping = json!({"kind": "fields", "targetUserIds": {"const": [user]}});
    stage
        .live(&json!({"signature": library.signature, "mapping": mapping}))
        .await
}

async fn check(stage: &Stage<'_>, hook: &Hook, library: &Library, attempt: &Attempt) {
    let response = stage.send(hook, &attempt.sent(library.form)).await;
    let case = format!("{} {}: {}", library.sign.1, library.signature, attempt.what);
    let expected = if attempt.ours { 202 } else { 401 };
    let said = (response.text(), stage.reasons().await);
    assert_eq!(response.status, expected, "{case}: {said:?}");
    if let (Some(id), true) = (library.id, attempt.ours) {
        assert_eq!(response.json()["data"]["flowInvocationId"], id, "{case}");
    }
}

async fn agrees(libraries: &[Library]) {
    let stage = Stage::new().await;
    for (library, attempts) in libraries.iter().zip(attempts(libraries).await) {
        let hook = hook_for(&stage, library).await;
        // The good one comes last: what comes before it has left nothing behind.
        for attempt in attempts.iter().rev() {
            check(&stage, &hook, library, attempt).await;
        }
    }
    let runs = i64::try_from(libraries.len()).expect("few");
    assert_eq!(stage.run_count().await, runs);
    stage.receiver.wait_for("/crm", libraries.len()).await;
}

#[tokio::test]
async fn t25_t26_what_libraries_of_python_sign_is_believed_and_nothing_else() {
    agrees(&senders_in_python()).await;
}

#[tokio::test]
async fn t25_what_libraries_of_javascript_sign_is_believed_and_nothing_else() {
    agrees(&senders_in_node()).await;
}

#[tokio::test]
async fn t25_what_is_signed_with_a_key_pair_is_believed_and_nothing_else() {
    agrees(&senders_with_key_pairs()).await;
}

/// Signed in 2023, so that only the time that is given decides.
const SIGNED_AT: u64 = 1_700_000_000;

#[tokio::test]
async fn t25_the_tolerance_is_five_minutes_on_both_sides_of_the_time_that_is_given() {
    let db = Database::new().await;
    let libraries: Vec<Library> = senders_in_python()
        .into_iter()
        .chain(senders_in_node())
        .collect();
    let jobs = libraries
        .iter()
        .map(|library| (library.sign.0, library.job(SIGNED_AT)));
    let signed = results(&jobs.collect::<Vec<_>>()).await;
    let mut dated = 0;
    for (library, mut headers) in libraries.iter().zip(signed) {
        let body = headers
            .as_object_mut()
            .and_then(|headers| headers.remove("body"));
        let body = body
            .as_ref()
            .and_then(Value::as_str)
            .map_or_else(|| library.body(), str::to_owned);
        let has_time = headers.to_string().contains(&SIGNED_AT.to_string());
        dated += usize::from(has_time);
        headers["Content-Type"] = match library.form {
            true => json!("application/x-www-form-urlencoded"),
            false => json!("application/json"),
        };
        for (offset, is_fresh) in [
            (-301, false),
            (-300, true),
            (0, true),
            (300, true),
            (301, false),
        ] {
            let verify = format!(
                "select actionflow.verify_signature($json${}$json$, $json${headers}$json$, convert_to($body${body}$body$, 'UTF8'),
                     to_timestamp({SIGNED_AT} + {offset}))",
                library.signature
            );
            let expected = if is_fresh || !has_time { "t" } else { "f" };
            let case = format!("{} {} at {offset}", library.sign.1, library.header);
            assert_eq!(db.sql.text(&verify).await, expected, "{case}");
        }
    }
    assert!(dated >= 8, "{dated}");
}
