//! `baton pki token`.

use serde_json::Value;
use transport::join::token::Token;

use super::run;

#[test]
fn tokens_are_ordered_listed_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let pki = |words: &str, more: &str| run(&format!("baton {words} {}{more}", dir.path().display()));
    pki("pki init", "").unwrap();
    let said = pki("pki token create", " t7 --minutes 5").unwrap();
    let token: Token = said.lines().next().unwrap().parse().unwrap();
    assert_eq!(token.name.as_str(), "t7");
    assert!(said.contains("baton pki serve") && said.contains("baton-agent join"), "{said}");

    let listed = pki("pki token list", "").unwrap();
    assert!(listed.lines().nth(1).is_some_and(|row| row.starts_with("t7     open ")), "{listed}");
    let rows: Value = serde_json::from_str(&pki("--json pki token list", "").unwrap()).unwrap();
    let seconds = |key: &str| rows[0][key].as_i64().unwrap();
    assert_eq!((&rows[0]["state"], &rows[0]["used"]), (&"open".into(), &Value::Null));
    assert_eq!(seconds("until_unix_s") - seconds("ordered_unix_s"), 300);

    pki("pki token revoke", " t7").unwrap();
    assert_eq!(pki("pki token list", "").unwrap(), "no token was ordered\n");
    let refused = pki("pki token revoke", " t7").unwrap_err();
    assert_eq!(refused.text(), "error: no token for `t7` is open\n");
}

#[test]
fn a_token_for_a_stack_that_has_a_certificate_says_what_to_add() {
    let dir = tempfile::tempdir().unwrap();
    let pki = |words: &str, more: &str| run(&format!("baton {words} {}{more}", dir.path().display()));
    pki("pki init", "").unwrap();
    pki("pki issue", " rt1").unwrap();
    let refused = pki("pki token create", " rt1").unwrap_err();
    assert!(refused.text().contains("--again"), "{}", refused.text());
    pki("pki token create", " rt1 --again").unwrap();
}
