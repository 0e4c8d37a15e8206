//! Any JSON answer, for programs whose fields this one does not know: pairs, and tables for lists and maps of
//! objects.

use serde_json::{Map, Value};

use super::table::{Rows, pairs};

/// The answer for people.
pub(super) fn plain(answer: &Value) -> String {
    let Value::Object(fields) = answer else { return format!("{}\n", cell(answer)) };
    let (tables, scalars): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_table(value));
    let scalars: Vec<(&str, String)> =
        scalars.into_iter().map(|(key, value)| (key.as_str(), cell(value))).collect();
    let tables = tables.into_iter().map(|(key, value)| format!("\n{}\n{}", key.to_uppercase(), table(value)));
    pairs(&scalars) + &to_do(answer) + &tables.collect::<String>()
}

/// What only the operator can put right on an agent's host, as for batond.
fn to_do(answer: &Value) -> String {
    let standing = answer.pointer("/environment/standing").and_then(Value::as_array).into_iter().flatten();
    let sentences = standing.filter_map(|finding| finding["sentence"].as_str());
    sentences.map(|sentence| format!("\nTO DO: {sentence}\n")).collect()
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Array(rows) => !rows.is_empty() && rows.iter().all(Value::is_object),
        Value::Object(rows) => !rows.is_empty() && rows.values().all(Value::is_object),
        _ => false,
    }
}

fn table(value: &Value) -> String {
    let objects: Vec<(Option<&str>, &Map<String, Value>)> = match value {
        Value::Object(map) => {
            map.iter().filter_map(|(name, o)| Some((Some(name.as_str()), o.as_object()?))).collect()
        }
        other => {
            other.as_array().into_iter().flatten().filter_map(|o| Some((None, o.as_object()?))).collect()
        }
    };
    let mut keys: Vec<&str> = Vec::new();
    for key in objects.iter().flat_map(|(_, o)| o.keys()) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let named = value.is_object();
    let head: Vec<&str> = named.then_some("").into_iter().chain(keys.iter().copied()).collect();
    let mut rows = Rows::new(&head, &[]);
    for (name, object) in objects {
        let cells = keys.iter().map(|key| object.get(*key).map_or_else(|| "-".to_owned(), cell));
        rows.add(name.map(str::to_owned).into_iter().chain(cells));
    }
    rows.text()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(n) => n.to_string(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key} {}", cell(value))).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_unknown_shape_becomes_pairs_and_tables() {
        let answer = serde_json::json!({
            "stack": "t1", "up": true, "none": null,
            "dvipas": [{"dvipa": "198.18.9.1", "served": [80]}, {"dvipa": "2001:db8:9::1", "odd": {"a": 1}}],
            "environment": {"put_right": {}, "standing": [{"subject": "order", "sentence": "remove that filter"}]},
            "routing_stacks": {"rt1": {"session": "up"}, "rt2": {"session": "apart", "why": "silent"}}
        });
        let text = plain(&answer);
        assert!(text.contains("stack        t1\n") && text.contains("up           yes\n"), "{text}");
        assert!(text.contains("put_right -") && text.contains("\nTO DO: remove that filter\n"), "{text}");
        assert!(text.contains("\nDVIPAS\n") && text.contains("2001:db8:9::1  -       a 1\n"), "{text}");
        assert!(text.contains("\nROUTING_STACKS\n") && text.contains("rt2  apart    silent\n"), "{text}");
    }
}
