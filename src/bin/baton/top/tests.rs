use super::*;

fn press(top: &mut Top, keys: &[Key]) -> bool {
    keys.iter().any(|key| top.ends(*key))
}

#[test]
fn keys_choose_the_view_and_filter_its_rows() {
    let mut top = Top::default();
    assert!(!press(&mut top, &[Key::Char('3')]));
    assert_eq!(top.view, View::Drops);
    assert!(!press(&mut top, &[Key::Char('\t'), Key::Char('\t'), Key::Char('\t')]));
    assert_eq!(top.view, View::Services, "the first one follows the last one");
    assert!(!press(&mut top, &[Key::BackTab]));
    assert_eq!(top.view, View::Events);
    let typed = ['/', 'q', '2', 'x'].map(Key::Char);
    assert!(!press(&mut top, &typed), "a letter of the filter ends nothing");
    assert!(!press(&mut top, &[Key::Backspace, Key::Char('\n')]));
    assert_eq!((top.filter.as_str(), top.view), ("q2", View::Events));
    assert!(!press(&mut top, &[Key::Esc]));
    assert_eq!(top.filter, "");
    assert!(press(&mut top, &[Key::Char('q')]));
}

#[test]
fn without_an_answer_a_frame_is_empty_and_whole() {
    let text = once(&mut Top { view: View::Stacks, ..Top::default() }, 80).unwrap();
    assert!(text.contains("2 Stacks") && text.contains("SESSION") && text.contains("q end"), "{text}");
}
