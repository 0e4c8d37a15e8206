use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::identity::{Identity, IdentityError, IdentityFiles};

fn name(text: &str) -> StackName {
    StackName::new(text).unwrap()
}

fn files(dir: &Path, stack: &str) -> IdentityFiles {
    let at = |file: String| dir.join(file);
    IdentityFiles {
        ca: at("ca.pem".into()),
        certificate: at(format!("{stack}.pem")),
        key: at(format!("{stack}.key")),
    }
}

fn cluster(stacks: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path()).unwrap();
    for stack in stacks {
        issue(dir.path(), &name(stack), STACK_DAYS).unwrap();
    }
    dir
}

#[test]
fn an_issued_certificate_is_an_identity_of_its_stack() {
    let dir = cluster(&["rt1"]);
    let identity = Identity::load(&files(dir.path(), "rt1"), &name("rt1")).unwrap();
    assert_eq!(identity.name(), &name("rt1"));
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    let dir = cluster(&["t1"]);
    for key in ["ca.key", "t1.key"] {
        let mode = dir.path().join(key).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn a_key_that_everybody_can_use_is_refused_with_the_command_that_mends_it() {
    let dir = cluster(&["t1"]);
    let files = files(dir.path(), "t1");
    let load = |mode| {
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(mode)).unwrap();
        Identity::load(&files, &name("t1")).map(drop)
    };
    for mode in [0o644, 0o606, 0o601] {
        let error = load(mode).unwrap_err();
        assert!(matches!(error, IdentityError::KeyIsOpen { .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    // A group may be meant to: that is said in the log.
    for mode in [0o600, 0o400, 0o640] {
        load(mode).unwrap();
    }
}

#[test]
fn nothing_is_overwritten() {
    let dir = cluster(&["t1"]);
    let before = std::fs::read(dir.path().join("t1.key")).unwrap();
    assert!(matches!(init(dir.path()), Err(PkiError::Exists(_))));
    assert!(matches!(issue(dir.path(), &name("t1"), 1), Err(PkiError::Exists(_))));
    assert_eq!(std::fs::read(dir.path().join("t1.key")).unwrap(), before);
}

#[test]
fn a_directory_without_a_ca_names_the_command_that_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = issue(dir.path(), &name("t1"), 1).unwrap_err().to_string();
    assert!(error.contains("baton pki init"), "{error}");
}

#[test]
fn a_name_that_no_certificate_can_hold_is_refused() {
    let dir = cluster(&[]);
    assert!(matches!(issue(dir.path(), &name("17"), 1), Err(PkiError::Name(_))));
    assert!(matches!(issue(dir.path(), &name("ca"), 1), Err(PkiError::Exists(_))));
}

#[test]
fn an_expired_certificate_names_the_fix() {
    let dir = cluster(&[]);
    issue_at(dir.path(), &name("t1"), 30, OffsetDateTime::now_utc() - Duration::days(31)).unwrap();
    let error = Identity::load(&files(dir.path(), "t1"), &name("t1")).unwrap_err();
    assert!(matches!(error, IdentityError::Expired { .. }), "{error}");
    assert!(error.to_string().contains("baton pki issue DIR t1"), "{error}");
}

#[test]
fn a_certificate_of_tomorrow_points_at_the_clock() {
    let dir = cluster(&[]);
    issue_at(dir.path(), &name("t1"), 30, OffsetDateTime::now_utc() + Duration::days(1)).unwrap();
    let error = Identity::load(&files(dir.path(), "t1"), &name("t1")).unwrap_err();
    assert!(error.to_string().contains("clock"), "{error}");
}

#[test]
fn a_certificate_of_another_ca_names_both_files() {
    let (ours, theirs) = (cluster(&["t1"]), cluster(&[]));
    let mixed = IdentityFiles { ca: theirs.path().join("ca.pem"), ..files(ours.path(), "t1") };
    let error = Identity::load(&mixed, &name("t1")).unwrap_err();
    assert!(matches!(error, IdentityError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("t1.pem") && error.to_string().contains("ca.pem"), "{error}");
}

#[test]
fn a_certificate_for_another_stack_is_refused() {
    let dir = cluster(&["t1"]);
    let error = Identity::load(&files(dir.path(), "t1"), &name("t2")).unwrap_err();
    assert!(matches!(error, IdentityError::WrongName { .. }), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let dir = cluster(&["t1", "t2"]);
    let mixed = IdentityFiles { key: dir.path().join("t2.key"), ..files(dir.path(), "t1") };
    let error = Identity::load(&mixed, &name("t1")).unwrap_err();
    assert!(matches!(error, IdentityError::KeyMismatch { .. }), "{error}");
}

#[test]
fn missing_and_foreign_files_are_named() {
    let dir = cluster(&["t1"]);
    let missing = IdentityFiles { ca: dir.path().join("none.pem"), ..files(dir.path(), "t1") };
    let error = Identity::load(&missing, &name("t1")).unwrap_err().to_string();
    assert!(error.contains("none.pem") && error.contains("baton pki init"), "{error}");
    let text = dir.path().join("text.pem");
    std::fs::write(&text, "hello").unwrap();
    let wrong = IdentityFiles { certificate: text, ..files(dir.path(), "t1") };
    let error = Identity::load(&wrong, &name("t1")).unwrap_err();
    assert!(matches!(error, IdentityError::Content { what: "certificate", .. }), "{error}");
}
