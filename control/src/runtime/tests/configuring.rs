//! Orders about the configuration, over the admin socket.

use std::fs;
use std::path::PathBuf;

use super::*;

const TWO: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
# The shop.
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = ["t1", "t2"]
method = "weighted-round-robin"
weights = { t1 = 10, t2 = 5 } # by cores
"#;
const T1: &str = "vipadynamic.vipadistribute[address=198.18.9.1].weights.t1";

fn set(path: &str, value: Option<&str>) -> String {
    json!({ "path": path, "value": value }).to_string()
}

impl Node {
    fn written(&self) -> String {
        fs::read_to_string(self.files.file()).unwrap()
    }

    fn history(&self) -> PathBuf {
        self.dir.path().join("state/rt1.history")
    }

    /// The numbers of those that are kept.
    async fn numbers(&self) -> Vec<u64> {
        let answer = self.get("/v1/config/history").await;
        let rows = answer["history"].as_array().unwrap();
        rows.iter().map(|row| row["number"].as_u64().unwrap()).collect()
    }

    async fn ordered(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.refused(&format!("POST {path}"), body).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    async fn weight_of_t1(&self) -> Value {
        self.get("/v1/dpt").await["services"][0]["targets"][0]["weight"].clone()
    }

    async fn last_event(&self) -> Value {
        self.get("/v1/events").await["events"].as_array().unwrap().last().unwrap().clone()
    }
}

#[tokio::test]
async fn a_key_is_set_in_the_file_and_in_force_at_once() {
    let node = Node::start(TWO).await;
    let before = node.written();
    assert_eq!(node.weight_of_t1().await, 10);
    let done = node.ordered("/v1/config", &set(T1, Some("3"))).await;
    assert_eq!(node.weight_of_t1().await, 3);
    assert_eq!(node.written(), before.replace("t1 = 10", "t1 = 3"), "with its comments");
    let key = "vipadynamic.vipadistribute.weights.t1";
    assert_eq!(done["changes"], json!([{ "key": key, "before": "10", "after": "3" }]));
    assert_eq!(done["number"], 2);
    let got = node.get(&format!("/v1/config?path={key}")).await;
    assert_eq!((&got["found"][0]["value"], &got["file_differs"]), (&json!(3), &json!(false)));
    assert_eq!(node.get("/v1/config").await["text"], node.written());

    let event = node.last_event().await;
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(event["event"], "config-set");
    let text = event["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("set {T1}, by order of uid {uid}")), "{text}");
    let history = node.get("/v1/config/history").await["history"].clone();
    assert_eq!((&history[0]["order"], &history[0]["by"]["who"]), (&json!("start"), &json!("start")));
    assert_eq!((&history[1]["order"], &history[1]["by"]["uid"]), (&json!("set"), &json!(uid)));
    assert_eq!(history[1]["changes"][0]["key"], key);

    node.ordered("/v1/config", &set(T1, None)).await;
    assert_eq!(node.weight_of_t1().await, 1, "the default is in force again");
    assert!(node.written().contains("weights = { t2 = 5 } # by cores"), "{}", node.written());
    node.stop().await;
}

#[tokio::test]
async fn what_is_wrong_or_needs_a_restart_is_refused_whole() {
    let node = Node::start(TWO).await;
    let before = node.written();
    let rows = [
        (T1, Some("70000"), 422, "outside of 0 to 65535"),
        ("vipadynamic.vipadistribute.metod", Some("maglev"), 422, "did you mean `method`?"),
        (
            "vipadynamic.vipadistribute.weights.t9",
            Some("1"),
            422,
            "`weights` names t9, which is not in destip",
        ),
        ("vipadynamic.vipadistribute[ports=81].method", Some("maglev"), 422, "is [ports=81]"),
        ("cluster.heartbeat_ms", Some("200"), 422, "`cluster.heartbeat_ms` can't change while batond runs"),
        ("node.name", None, 422, "`node` has no `name`"),
        ("no path[", Some("1"), 422, "is not a path"),
    ];
    for (path, value, wanted, says) in rows {
        let (status, answer) = node.refused("POST /v1/config", &set(path, value)).await;
        assert_eq!(status, wanted, "{path}");
        assert!(answer.to_string().contains(says), "{path}: {answer}");
        let event = node.last_event().await;
        assert_eq!(event["event"], "config-refused");
        assert!(event["text"].as_str().unwrap().contains(path), "{event}");
    }
    let (_, answer) = node.refused("POST /v1/config", &set(T1, Some("70000"))).await;
    assert!(answer["mistakes"][0]["line"].as_u64().unwrap() > 30, "with its place: {answer}");
    assert_eq!((node.written(), node.weight_of_t1().await), (before, json!(10)));
    assert_eq!(node.get("/v1/config/history").await["history"].as_array().unwrap().len(), 1);
    assert_eq!(
        fs::read_dir(node.dir.path())
            .unwrap()
            .flatten()
            .filter(|f| f.path().extension().is_some_and(|e| e == "unfinished"))
            .count(),
        0
    );
    node.stop().await;
}

#[tokio::test]
async fn what_was_edited_by_hand_is_shown_and_comes_into_force_with_the_next_order() {
    let node = Node::start(TWO).await;
    assert_eq!(node.get("/v1/config/diff").await["changes"], json!([]));
    let edited =
        node.written().replace("t2 = 5", "t2 = 7").replace("lost_after_ms = 1000", "lost_after_ms = 900");
    fs::write(node.files.file(), &edited).unwrap();
    let diff = node.get("/v1/config/diff").await;
    let row = |i: usize| (diff["changes"][i]["key"].clone(), diff["changes"][i]["needs_restart"].is_string());
    assert_eq!(row(0), (json!("cluster.lost_after_ms"), true));
    assert_eq!(row(1), (json!("vipadynamic.vipadistribute.weights.t2"), false));
    let (status, answer) = node.refused("POST /v1/config", &set(T1, Some("3"))).await;
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("lost_after_ms"), "{answer}");
    assert_eq!(node.written(), edited);

    fs::write(node.files.file(), edited.replace("lost_after_ms = 900", "lost_after_ms = 1000")).unwrap();
    let done = node.ordered("/v1/config", &set(T1, Some("3"))).await;
    assert_eq!(done["changes"].as_array().unwrap().len(), 2, "{done}");
    fs::write(node.files.file(), "nonsense = 1\n").unwrap();
    let diff = node.get("/v1/config/diff").await;
    assert!(diff["mistakes"].to_string().contains("nonsense"), "{diff}");
    node.stop().await;
}

#[tokio::test]
async fn a_former_configuration_is_in_force_again() {
    let node = Node::start(TWO).await;
    let first = node.written();
    node.ordered("/v1/config", &set(T1, Some("3"))).await;
    node.ordered("/v1/config", &set("vipadynamic.vipadistribute.method", Some("maglev"))).await;
    assert_eq!(node.get("/v1/config/history?number=1").await["text"], first);
    let done = node.ordered("/v1/config/rollback", r#"{"number":1}"#).await;
    assert_eq!((&done["number"], done["changes"].as_array().unwrap().len()), (&json!(4), 2));
    assert_eq!((node.written(), node.weight_of_t1().await), (first, json!(10)));
    let (status, _) = node.refused("POST /v1/config/rollback", r#"{"number":99}"#).await;
    assert_eq!(status, 404);
    let (status, _) = node.refused("GET /v1/config/history?number=99", "").await;
    assert_eq!(status, 404);

    fs::remove_file(node.files.file()).unwrap();
    fs::create_dir(node.files.file()).unwrap();
    let (status, answer) = node.refused("POST /v1/config/rollback", r#"{"number":2}"#).await;
    assert_eq!((status, node.weight_of_t1().await), (422, json!(10)), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("cannot read"), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn a_rollback_keeps_the_file_that_it_writes_over() {
    let node = Node::start(TWO).await;
    let first = node.written();
    node.ordered("/v1/config", &set(T1, Some("3"))).await;
    let edited = node.written().replace("t2 = 5", "t2 = 7");
    fs::write(node.files.file(), &edited).unwrap();
    let done = node.ordered("/v1/config/rollback", r#"{"number":1}"#).await;
    assert_eq!(done["overwritten"][0]["key"], "vipadynamic.vipadistribute.weights.t2", "{done}");
    assert_eq!((&done["file_kept"], &done["number"]), (&json!(3), &json!(4)));
    assert_eq!(node.get("/v1/config/history?number=3").await["text"], edited);
    assert_eq!(node.written(), first);

    let broken = "no TOML = [";
    fs::write(node.files.file(), broken).unwrap();
    let (status, _) = node.refused("POST /v1/config/rollback", r#"{"number":3000}"#).await;
    assert_eq!((status, node.numbers().await.len()), (404, 4));
    let done = node.ordered("/v1/config/rollback", r#"{"number":2}"#).await;
    assert_eq!((&done["file_kept"], &done["number"]), (&json!(5), &json!(6)));
    assert_eq!(node.get("/v1/config/history?number=5").await["text"], broken);

    fs::write(node.files.file(), broken).unwrap();
    fs::create_dir(node.history().join("00000007.unfinished")).unwrap();
    let (status, answer) = node.refused("POST /v1/config/rollback", r#"{"number":1}"#).await;
    assert_eq!((status, node.written().as_str()), (422, broken), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn an_order_whose_file_can_not_be_written_changes_nothing() {
    let node = Node::start(TWO).await;
    node.ordered("/v1/config", &set("admin.config", Some("api"))).await;
    let generation = node.get("/v1/dpt").await["generation"].clone();
    // Nothing can take the place of a directory.
    fs::remove_file(node.files.file()).unwrap();
    fs::create_dir(node.files.file()).unwrap();
    let (status, answer) = node.refused("POST /v1/config", &set(T1, Some("3"))).await;
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("cannot write"), "{answer}");
    assert_eq!(
        node.get("/v1/dpt").await["generation"],
        generation,
        "it was not in force for a moment either"
    );
    assert_eq!(node.numbers().await, [1, 2], "a restart would go by it");
    assert_eq!(fs::read_dir(node.history()).unwrap().count(), 2);
    node.stop().await;
}

#[tokio::test]
async fn a_file_whose_configuration_is_refused_is_put_back() {
    let node = Node::start(TWO).await;
    let fixed = node.written().split("[[vipadynamic]]").next().unwrap().to_owned();
    // One DVIPA has a number, and there are as many others as there are numbers.
    let define = |n: u16| {
        let [high, low] = n.to_be_bytes();
        format!("[[vipadynamic.vipadefine]]\naddress = \"198.19.{high}.{low}\"\nmask = 32\n")
    };
    let edited = fixed + "[[vipadynamic]]\n" + &(0..=model::DvipaIndex::MAX).map(define).collect::<String>();
    fs::write(node.files.file(), &edited).unwrap();
    let key = "vipadynamic.vipadefine[address=198.19.0.9].mask";
    let (status, answer) = node.refused("POST /v1/config", &set(key, Some("31"))).await;
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("one DVIPA too many"), "{answer}");
    assert!(node.written() == edited, "it is as it was");
    assert_eq!((node.numbers().await, node.weight_of_t1().await), (vec![1], json!(10)));
    node.stop().await;
}

#[tokio::test]
async fn what_can_not_be_kept_is_refused_where_a_restart_goes_by_it() {
    let node = Node::start(TWO).await;
    let (history, beside) = (node.history(), node.dir.path().join("beside"));
    let breaks = |breaks: bool| match breaks {
        true => fs::rename(&history, &beside).and_then(|()| fs::write(&history, "no directory")),
        false => fs::remove_file(&history).and_then(|()| fs::rename(&beside, &history)),
    };
    breaks(true).unwrap();
    let done = node.ordered("/v1/config", &set(T1, Some("4"))).await;
    assert_eq!(done["number"], Value::Null, "it is in force and not kept: {done}");
    let (status, answer) = node.refused("POST /v1/config", &set("admin.config", Some("api"))).await;
    assert_eq!(status, 422, "{answer}");
    breaks(false).unwrap();
    node.ordered("/v1/config", &set("admin.config", Some("api"))).await;

    let before = node.written();
    breaks(true).unwrap();
    let (status, answer) = node.refused("POST /v1/config", &set(T1, Some("3"))).await;
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("cannot keep"), "{answer}");
    assert_eq!((node.written(), node.weight_of_t1().await), (before.clone(), json!(4)));
    node.ordered("/v1/reload", "").await;
    breaks(false).unwrap();
    let (_, source) = super::super::load(&node.files.file()).unwrap();
    assert_eq!(source.text, before);
    node.stop().await;
}

#[tokio::test]
async fn a_start_goes_by_the_file_unless_what_was_in_force_last_was_ordered_and_is_good() {
    let node = Node::start(TWO).await;
    let start = || super::super::load(&node.files.file()).unwrap().1.text;
    // The truth of the last one was the file.
    let by_hand = node.written().replace("[admin]", "[admin]\nconfig = \"api\"").replace("t1 = 10", "t1 = 7");
    fs::write(node.files.file(), &by_hand).unwrap();
    assert_eq!(start(), by_hand);

    node.ordered("/v1/reload", "").await;
    node.ordered("/v1/config", &set(T1, Some("3"))).await;
    let ordered = node.written();
    fs::write(node.files.file(), &by_hand).unwrap();
    assert_eq!(start(), ordered);
    // A former batond knew a key that this one does not.
    let last = node.history().join("00000003.json");
    let mut entry: Value = serde_json::from_slice(&fs::read(&last).unwrap()).unwrap();
    entry["text"] = json!(ordered + "\n[nonsense]\n");
    fs::write(&last, entry.to_string()).unwrap();
    assert_eq!(start(), by_hand);
    node.stop().await;
}

#[tokio::test]
async fn events_have_no_values_and_the_beginning_of_a_long_order() {
    let node = Node::start(TWO).await;
    let long = "x".repeat(100_000);
    for (path, value) in [(T1, "70000"), (T1, "{70000"), (T1, &long), (&long, "70000"), ("a.b.", "70000")] {
        let (status, _) = node.refused("POST /v1/config", &set(path, Some(value))).await;
        assert_eq!(status, 422);
        let event = node.last_event().await;
        let text = event["text"].as_str().unwrap();
        assert!(event["event"] == "config-refused" && text.len() < 600, "{}", &text[..text.len().min(600)]);
        assert!(!text.contains("70000") && text.contains(": "), "{text}");
    }
    fs::write(node.files.file(), node.written().replace("t1 = 10", "t1 = 70000")).unwrap();
    node.refused("POST /v1/reload", "").await;
    let event = node.last_event().await;
    assert_eq!(event["event"], "reload-refused");
    assert!(!event.to_string().contains("70000") && event.to_string().contains("1 mistake in"), "{event}");
    node.stop().await;
}

#[tokio::test]
async fn where_the_api_is_the_truth_the_file_follows() {
    let node = Node::start(TWO).await;
    node.ordered("/v1/config", &set("admin.config", Some("api"))).await;
    node.ordered("/v1/config", &set(T1, Some("3"))).await;
    let ordered = node.written();
    fs::write(node.files.file(), ordered.replace("t2 = 5", "t2 = 7")).unwrap();
    let (status, answer) = node.refused("POST /v1/reload", "").await;
    assert_eq!(status, 422);
    assert!(answer["error"].as_str().unwrap().contains("admin.config"), "{answer}");
    assert_eq!(node.get("/v1/config/diff").await["changes"].as_array().unwrap().len(), 1);
    assert_eq!(node.get("/v1/config").await["text"], ordered);

    // A restart goes on with what was in force.
    let (config, source) = super::super::load(&node.files.file()).unwrap();
    assert_eq!(source.text, ordered);
    assert_eq!(config.admin.truth, crate::config::Truth::Api);

    let done = node.ordered("/v1/config", &set(T1, Some("4"))).await;
    assert_eq!(done["overwritten"][0]["key"], "vipadynamic.vipadistribute.weights.t2");
    assert!(node.written().contains("t1 = 4, t2 = 5"), "{}", node.written());

    let by_hand = node.written().replace("config = \"api\"", "config = \"file\"").replace("t1 = 4", "t1 = 8");
    fs::write(node.files.file(), by_hand).unwrap();
    node.ordered("/v1/reload", "").await;
    assert_eq!(node.weight_of_t1().await, 8, "the file can always be made the truth");
    node.stop().await;
}
