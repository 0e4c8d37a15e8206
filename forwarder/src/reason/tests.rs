use std::collections::BTreeSet;

use super::*;

#[test]
fn every_reason_has_its_own_name_in_snake_case_and_a_sentence() {
    let mut names = BTreeSet::new();
    for reason in Reason::ALL {
        let (name, sentence) = (reason.name(), reason.sentence());
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name} is not in snake_case");
        assert!(sentence.ends_with('.') && sentence.len() > 20, "{name}: {sentence:?} is no sentence");
    }
}

#[test]
fn reasons_are_listed_in_the_order_of_their_numbers() {
    assert!(Reason::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
}

#[test]
fn drops_are_somebodys_fault_and_nothing_else_is() {
    for reason in Reason::ALL {
        assert_eq!(reason.blame().is_some(), matches!(reason.kind(), Kind::Dropped(_)), "{}", reason.name());
    }
}
