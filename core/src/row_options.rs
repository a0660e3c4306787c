//! Options of a trigger that asks before a row is inserted.

use serde_json::{Map, Value};

use crate::input::{Error, Object, Place};

const SUBJECT: &str = "options";
const KEYS: &[&str] = &["user_id", "properties", "fill", "on_block", "on_challenge"];

/// What is sent, and what becomes of the row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowOptions {
    /// The column with the customer's id.
    pub user_id: String,
    /// Columns that are the event's properties; `None` for all.
    properties: Option<Vec<String>>,
    /// Columns that are filled in, each from a path into the answer.
    fill: Vec<(String, Vec<String>)>,
    on_block: OnDecision,
    on_challenge: OnDecision,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDecision {
    /// It is inserted.
    Insert,
    /// The statement goes on without it.
    Skip,
    /// The statement fails.
    Refuse,
}

impl RowOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// When a key is unknown or a type is wrong.
    pub fn parse(json: &Value) -> Result<Self, Error> {
        let object = Object::read(Place::root(SUBJECT), json, KEYS)?;
        Ok(Self {
            user_id: object.text("user_id")?.unwrap_or("user_id").to_owned(),
            properties: parse_columns(&object)?,
            fill: parse_fill(&object)?,
            on_block: parse_decision(&object, "on_block", OnDecision::Refuse)?,
            on_challenge: parse_decision(&object, "on_challenge", OnDecision::Insert)?,
        })
    }

    /// What becomes of a row when the answer is this action.
    #[must_use]
    pub fn on(&self, action: &str) -> OnDecision {
        match action {
            "allow" => OnDecision::Insert,
            "challenge" => self.on_challenge,
            _ => self.on_block,
        }
    }

    /// The columns that the options name.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let filled = self.fill.iter().map(|(column, _)| column);
        let sent = self.properties.iter().flatten();
        std::iter::once(&self.user_id)
            .chain(filled)
            .chain(sent)
            .cloned()
            .collect()
    }

    /// The event's properties.
    #[must_use]
    pub fn properties_of(&self, mut row: Map<String, Value>) -> Map<String, Value> {
        if let Some(wanted) = &self.properties {
            row.retain(|column, _| wanted.contains(column));
        }
        row
    }

    /// Values of columns, as the answer gives them; what it does not have is null.
    #[must_use]
    pub fn filled_in(&self, answer: &Value) -> Map<String, Value> {
        let find = |path: &[String]| {
            let mut value = answer;
            for step in path {
                value = value.get(step)?;
            }
            Some(value.clone())
        };
        self.fill
            .iter()
            .map(|(column, path)| (column.clone(), find(path).unwrap_or_default()))
            .collect()
    }
}

fn parse_columns(object: &Object<'_>) -> Result<Option<Vec<String>>, Error> {
    let Some((value, place)) = object.get("properties") else {
        return Ok(None);
    };
    let list = value
        .as_array()
        .ok_or_else(|| place.wrong_type("an array of column names", value))?;
    let names = list.iter().enumerate().map(|(index, name)| {
        let name = name
            .as_str()
            .ok_or_else(|| place.index(index).wrong_type("a column name", name))?;
        Ok(name.to_owned())
    });
    names.collect::<Result<_, Error>>().map(Some)
}

fn parse_fill(object: &Object<'_>) -> Result<Vec<(String, Vec<String>)>, Error> {
    let Some((value, place)) = object.get("fill") else {
        return Ok(Vec::new());
    };
    let map = value
        .as_object()
        .ok_or_else(|| place.wrong_type("an object", value))?;
    map.iter()
        .map(|(column, path)| {
            let path = path
                .as_str()
                .ok_or_else(|| place.key(column).wrong_type("a path into the answer", path))?;
            Ok((column.clone(), path.split('.').map(str::to_owned).collect()))
        })
        .collect()
}

fn parse_decision(
    object: &Object<'_>,
    key: &'static str,
    default: OnDecision,
) -> Result<OnDecision, Error> {
    match object.text(key)? {
        None => Ok(default),
        Some("insert") => Ok(OnDecision::Insert),
        Some("skip") => Ok(OnDecision::Skip),
        Some("refuse") => Ok(OnDecision::Refuse),
        Some(other) => Err(object.place.key(key).unusable(
            format!("unknown \"{key}\" \"{other}\""),
            "Use one of: insert, skip, refuse.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_is_sent_and_filled_in_as_the_options_say() {
        let options = RowOptions::parse(&json!({
            "user_id": "customer", "properties": ["ip"], "on_challenge": "skip",
            "fill": {"decision": "action", "score": "results.risk.data.score", "nothing": "results.x.y"}
        }))
        .expect("valid");
        let row = json!({"customer": 42, "ip": "203.0.113.9", "secret": "s"});
        let Value::Object(row) = row else {
            unreachable!()
        };
        assert_eq!(
            Value::Object(options.properties_of(row)),
            json!({"ip": "203.0.113.9"})
        );
        let answer = json!({"action": "challenge", "results": {"risk": {"data": {"score": 7}}}});
        assert_eq!(
            Value::Object(options.filled_in(&answer)),
            json!({"decision": "challenge", "score": 7, "nothing": null})
        );
        assert_eq!(options.on("challenge"), OnDecision::Skip);
        assert_eq!(options.on("block"), OnDecision::Refuse);
        assert_eq!(
            options.columns(),
            ["customer", "decision", "nothing", "score", "ip"]
        );
    }

    #[test]
    fn a_mistake_is_named() {
        let cases = [
            (json!({"userid": "x"}), "unknown key \"userid\""),
            (
                json!({"properties": "ip"}),
                "expected an array of column names, got a string",
            ),
            (
                json!({"fill": {"a": 1}}),
                "expected a path into the answer, got a number",
            ),
            (json!({"on_block": "drop"}), "unknown \"on_block\" \"drop\""),
        ];
        for (options, text) in cases {
            let error = RowOptions::parse(&options).expect_err("must be refused");
            assert_eq!(error.to_string(), format!("invalid options: {text}"));
        }
    }
}
