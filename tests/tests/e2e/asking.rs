//! What tests of Enrich begin with: endpoints that are asked, and a flow that asks them when a customer logs in.

use actionflow_tests::{Answer, Session, Worker};
use serde_json::{Map, Value, json};

use crate::scene::{Scene, publish, wait_for_rows};

/// An enrich action that asks the endpoint of its own name, with `more` keys.
pub(crate) fn enrich(name: &str, more: Value) -> Value {
    let mut action = json!({"name": name, "type": "enrich", "endpoint": name});
    let (Some(keys), Value::Object(more)) = (action.as_object_mut(), more) else {
        panic!("not an object");
    };
    keys.extend(more);
    action
}

/// A notify action that tells the endpoint of its own name.
pub(crate) fn tell(name: &str) -> Value {
    json!({"name": name, "type": "notify", "endpoint": name})
}

/// A notify action that is waited for.
pub(crate) fn tell_and_wait(name: &str) -> Value {
    json!({"name": name, "type": "notify", "endpoint": name, "wait": true})
}

/// A scene with a worker, an endpoint for each action, and a flow `gate` of these actions that the event `login` starts.
pub(crate) async fn asking(actions: Value) -> (Scene, Worker) {
    let scene = Scene::new().await;
    for action in actions.as_array().expect("a list of actions") {
        let name = action["endpoint"].as_str().expect("an endpoint's name");
        scene.endpoint(name, "{}").await;
    }
    flow_on(&scene, "gate", "login", actions).await;
    let worker = scene.db.worker().await;
    (scene, worker)
}

/// A published flow that an event starts.
pub(crate) async fn flow_on(scene: &Scene, flow: &str, event: &str, actions: Value) {
    publish(scene.sql(), flow, &json!({"actions": actions}).to_string()).await;
    scene.trigger(flow, event).await;
}

/// The statement that emits an event.
pub(crate) fn emission(event: &str, user: &str, properties: &Value) -> String {
    format!("select actionflow.emit_event('{event}', '{user}', $json${properties}$json$)")
}

/// Emits an event and returns the answer.
pub(crate) async fn emit(sql: &Session, event: &str, user: &str, properties: Value) -> Value {
    sql.json(&emission(event, user, &properties)).await
}

/// Customer 42 logs in.
pub(crate) async fn login(scene: &Scene) -> Value {
    emit(scene.sql(), "login", "42", json!({})).await
}

/// The keys of an answer of the action `risk`, which fails in this way.
pub(crate) fn failure(decision: &str, kind: &str) -> Value {
    json!({"action": decision, "failure": kind})
}

/// An answer with this data and nothing else.
pub(crate) fn data(data: Value) -> Answer {
    Answer::json(&json!({"data": data}))
}

/// What an answer says without the id of the event.
pub(crate) fn without_id(mut answer: Value) -> Value {
    let id = answer
        .as_object_mut()
        .and_then(|keys| keys.remove("event_id"));
    assert!(
        id.is_some_and(|id| id.as_str().is_some_and(|id| id.parse::<i64>().is_ok())),
        "no event_id in {answer}"
    );
    answer
}

/// The data of each of an answer's results, by name.
pub(crate) fn names(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_object();
    let names = results.into_iter().flat_map(Map::keys);
    names.map(String::as_str).collect()
}

/// Waits until the log of attempts has these rows, in the order of requests and attempts.
pub(crate) async fn wait_for_attempts(scene: &Scene, columns: &str, rows: &[&str]) {
    let query = format!(
        "select {columns} from actionflow.enrich_attempts order by request_id, attempt, started_at"
    );
    wait_for_rows(scene.sql(), &query, rows).await;
}
