//! Headers, payloads and results are read from jsonb and written to it without going by its text; it must make no difference.

#[pgrx::pg_schema]
mod tests {
    use crate::pg::jsonb::{self, with_bytes};
    use crate::pg::jsonb_reader::header_pairs;
    use crate::pg::jsonb_writer::Written;
    use crate::tests::{error_of, text};
    use actionflow_core::mapping::{Mapping, Request, checked_payload};
    use pgrx::prelude::*;
    use pgrx::{IntoDatum, JsonB};
    use serde_json::{Value, json};

    const REQUEST: Request<'static> = Request {
        method: "POST",
        headers: &[],
    };

    /// Numbers without a pattern, the same for every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 40).expect("24 bits") % sides
        }

        fn name(&mut self) -> &'static str {
            const NAMES: [&str; 10] = [
                "a",
                "b",
                "c",
                "aa",
                "ab",
                "é",
                "",
                "abc",
                "b c",
                "zzzzzzzzzzzzzzzz",
            ];
            NAMES[self.roll(NAMES.len())]
        }

        fn value(&mut self, depth: usize) -> Value {
            match self.roll(if depth == 0 { 7 } else { 14 }) {
                0 => Value::Null,
                1 => json!(true),
                2 => json!(false),
                3 => json!(self.roll(1_000)),
                4 => serde_json::from_str("-1234567890123456789012.50").expect("JSON"),
                5 => json!("\"☺\"\n\\"),
                6 => json!(self.name()),
                7 | 8 => (0..self.roll(5)).map(|_| self.value(depth - 1)).collect(),
                _ => self.object(depth),
            }
        }

        /// Of more than 32 members now and then, where jsonb begins to store offsets.
        fn object(&mut self, depth: usize) -> Value {
            let mut object: serde_json::Map<_, _> = (0..self.roll(9))
                .map(|_| (self.name().to_owned(), self.value(depth - 1)))
                .collect();
            if self.roll(8) == 0 {
                object.extend((0..40).map(|i| (format!("m{i}"), json!(i))));
            }
            object.into()
        }

        fn query(&mut self) -> String {
            const ENDS: [&str; 8] = ["", "", "", "[0]", "[-1].a", ".*", "..a", "[?@.a == $.b]"];
            let mut query = String::from("$");
            for _ in 0..self.roll(4) {
                query += &format!("[{:?}]", self.name());
            }
            if self.roll(6) == 0 {
                query += "['m33']";
            }
            query + ENDS[self.roll(ENDS.len())]
        }

        fn mapping(&mut self) -> Value {
            let mut variables = serde_json::Map::new();
            for i in 0..self.roll(5) {
                variables.insert(format!("v{i}"), json!(self.query()));
            }
            let whole = self.query();
            let targets = json!([self.query(), {"const": "x"}]);
            let mut mapping =
                json!({"kind": "fields", "targetUserIds": targets, "variables": variables});
            if self.roll(4) == 0 {
                mapping["metadata"] = json!(whole);
            }
            mapping
        }
    }

    /// By way of all of the payload, and of texts in both directions.
    fn expected(mapping: &Value, payload: &Value) -> Result<Value, String> {
        let mapping = Mapping::parse(mapping).expect("a good mapping");
        let mapped = mapping
            .apply(payload, &REQUEST, || false)
            .map_err(|failure| failure.message)?;
        let checked = checked_payload(&mapped).map_err(|error| error.to_string())?;
        Ok(checked.into_json())
    }

    #[pg_test]
    fn headers_are_read_from_jsonb_as_json_says() {
        let long = "x".repeat(300);
        let many: Vec<Value> = (0..100)
            .map(|i| json!([format!("h{i}"), i.to_string()]))
            .collect();
        let cases = [
            (json!({}), vec![]),
            (json!([]), vec![]),
            (json!("text"), vec![]),
            (json!(null), vec![]),
            (
                json!({"a": "1", "B": ["2", "3", 4, null]}),
                vec![("B", "2"), ("B", "3"), ("a", "1")],
            ),
            (
                json!({"n": 1, "t": true, "z": null, "o": {"a": "b"}, "s": ""}),
                vec![("s", "")],
            ),
            (
                json!([
                    ["a", "1"],
                    ["a", "2"],
                    ["x"],
                    ["x", "y", "z"],
                    "s",
                    1,
                    ["n", 5]
                ]),
                vec![("a", "1"), ("a", "2")],
            ),
            (
                json!({"é": "ü", "long": long.as_str(), "q": "\"\\\n"}),
                vec![("q", "\"\\\n"), ("é", "ü"), ("long", long.as_str())],
            ),
        ];
        for (json, expected) in cases {
            let datum = JsonB(json.clone()).into_datum().expect("a value");
            let found = with_bytes(datum, |bytes| {
                let mut pairs: Vec<(String, String)> = header_pairs(bytes, |_| true)
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect();
                pairs.sort();
                pairs
            });
            let mut expected: Vec<(String, String)> = expected
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            expected.sort();
            assert_eq!(found, expected, "{json}");
            let found = with_bytes(datum, |bytes| {
                header_pairs(bytes, |name| name.eq_ignore_ascii_case(b"A")).len()
            });
            let wanted = expected.iter().filter(|(name, _)| name == "a").count();
            assert_eq!(found, wanted, "{json}");
        }
        let datum = JsonB(Value::Array(many)).into_datum().expect("a value");
        let count = with_bytes(datum, |bytes| {
            let pairs = header_pairs(bytes, |_| true);
            assert!(
                pairs
                    .iter()
                    .enumerate()
                    .all(|(i, pair)| *pair == (format!("h{i}").as_str(), i.to_string().as_str()))
            );
            pairs.len()
        });
        assert_eq!(count, 100);
    }

    #[pg_test]
    fn documents_are_read_from_jsonb_as_their_text_says() {
        for text in [
            r#"{"a": [1, -2.50, 1e20, 12345678901234567890.000000001, true, false, null, "é\"", {"b": {}}, []], "": "x"}"#,
            "5",
            "\"text\"",
            "null",
            "true",
            "[]",
            "{}",
            "[[[[1]]]]",
            r#"[{"k": 0}, {"k": 0.1}, "padding", {"long key with text": [1, "x", 2, "yz", 3]}]"#,
        ] {
            let datum = Spi::get_one::<JsonB>(&format!("select '{text}'::jsonb"))
                .expect("query")
                .expect("a value")
                .into_datum();
            let by_text = crate::tests::text(&format!("select '{text}'::jsonb"));
            let expected: Value = serde_json::from_str(&by_text).expect("JSON");
            assert_eq!(jsonb::to_json(datum.expect("a value")), Some(expected));
        }
        let deep = |levels: usize| {
            let text = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            error_of(&format!(
                "select actionflow.map_payload('{{\"kind\": \"none\"}}', '{text}')"
            ))
        };
        assert!(deep(100).starts_with("22023 | "), "{}", deep(100));
        assert!(deep(1_000).starts_with("54000 | the JSON nests deeper than 128 levels"));
    }

    #[pg_test]
    fn what_is_not_wanted_of_a_payload_makes_no_difference() {
        let mut dice = Dice(1);
        let mut results = 0;
        for round in 0..1_500 {
            let (mapping, payload) = (dice.mapping(), dice.object(4));
            let statement =
                format!("select actionflow.map_payload($m${mapping}$m$, $p${payload}$p$)");
            match expected(&mapping, &payload) {
                Ok(json) => {
                    results += 1;
                    let is_same = text(&format!("select ({statement}) = $j${json}$j$::jsonb"));
                    assert_eq!(is_same, "true", "round {round}: {statement}");
                }
                Err(message) => {
                    let error = error_of(&statement);
                    assert!(
                        error.contains(&message),
                        "round {round}: {error}\n{message}\n{statement}"
                    );
                }
            }
        }
        assert!((300..1_500).contains(&results), "{results}");
    }

    #[pg_test]
    fn a_payload_that_nests_too_deeply_is_refused_wherever_that_is() {
        let map = |payload: &str| {
            error_of(&format!(
                "select actionflow.map_payload('{{\"kind\": \"fields\", \"targetUserIds\": \"$.id\"}}', '{payload}')"
            ))
        };
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            // The innermost value lies one level below the brackets.
            let nested =
                |levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));
            let beside =
                |levels: usize| map(&format!(r#"{{"id": 1, "rest": {}}}"#, nested(levels)));
            let is_too_deep =
                |error: &str| error.starts_with("54000 | the JSON nests deeper than 128 levels");
            assert_eq!(beside(127), "no error");
            assert!(is_too_deep(&beside(128)), "{}", beside(128));
            assert!(is_too_deep(&beside(900)));
            // What a trigger payload may hold nests less than that.
            let inside = |levels: usize| map(&format!(r#"{{"id": {}}}"#, nested(levels)));
            assert!(inside(127).contains("100 levels"), "{}", inside(127));
            assert!(is_too_deep(&inside(128)));
            assert!(map(&nested(128)).starts_with("22023 | "));
            assert!(is_too_deep(&map(&nested(129))));
        }
        assert!(map("3").starts_with("22023 | "));
    }

    #[pg_test]
    fn jsonb_that_is_written_is_what_postgres_makes_of_the_text() {
        let mut dice = Dice(2);
        for _ in 0..300 {
            let value = dice.object(4);
            let by_text = JsonB(value.clone()).into_datum().expect("a value");
            let written = Written::new(&value).expect("a value");
            jsonb::with_bytes(by_text, |expected| {
                jsonb::with_bytes(written.datum(), |bytes| {
                    assert_eq!(bytes, expected, "{value}")
                });
            });
        }
    }
}
