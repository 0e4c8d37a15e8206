//! Two frames side by side, for a person.

use std::fmt::Write as _;

use crate::decode::{Field, fields};

/// Both frames decoded, field by field; a field that differs, or that only one of them has, is marked with `*`.
pub fn side_by_side(expected: &[u8], sent: &[u8]) -> String {
    let (left, right) = (fields(expected), fields(sent));
    let mut text = String::new();
    let _ = writeln!(text, "    {:<28} {:<40} sent", "", "expected");
    for (name, a, b) in aligned(&left, &right) {
        let mark = if a == b { ' ' } else { '*' };
        let _ = writeln!(text, "  {mark} {name:<28} {:<40} {}", a.unwrap_or("-"), b.unwrap_or("-"));
    }
    match expected.iter().zip(sent).position(|(a, b)| a != b) {
        Some(at) => writeln!(text, "    the first different byte is number {at}"),
        None => writeln!(
            text,
            "    one is the beginning of the other: {} and {} bytes",
            expected.len(),
            sent.len()
        ),
    }
    .unwrap_or_default();
    text
}

/// One frame decoded.
pub fn alone(frame: &[u8]) -> String {
    let mut text = String::new();
    for Field { name, value } in fields(frame) {
        let _ = writeln!(text, "    {name:<28} {value}");
    }
    text
}

/// Fields of both by name: those of the left one in their order, each preceded by those that only the right one has.
fn aligned<'f>(left: &'f [Field], right: &'f [Field]) -> Vec<(&'f str, Option<&'f str>, Option<&'f str>)> {
    let mut rows = Vec::new();
    let mut rest = right;
    for field in left {
        match rest.iter().position(|r| r.name == field.name) {
            Some(at) => {
                let (before, from) = rest.split_at(at);
                rows.extend(before.iter().map(|r| (r.name.as_str(), None, Some(r.value.as_str()))));
                rows.push((
                    field.name.as_str(),
                    Some(field.value.as_str()),
                    from.first().map(|r| r.value.as_str()),
                ));
                rest = from.get(1..).unwrap_or_default();
            }
            None => rows.push((field.name.as_str(), Some(field.value.as_str()), None)),
        }
    }
    rows.extend(rest.iter().map(|r| (r.name.as_str(), None, Some(r.value.as_str()))));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_differs_is_marked_and_no_other() {
        let frame = |ttl| {
            let mut bytes = Vec::new();
            let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(
                [198, 18, 0, 2],
                [198, 18, 9, 1],
                ttl,
            );
            builder.tcp(40000, 80, 1, 1000).syn().write(&mut bytes, b"abc").unwrap();
            bytes
        };
        let text = side_by_side(&frame(64), &frame(63));
        let marked: Vec<_> = text.lines().filter(|l| l.starts_with("  *")).collect();
        assert_eq!(marked.len(), 2, "{text}");
        assert!(marked[0].contains("ip4.ttl") && marked[1].contains("ip4.checksum"), "{text}");
        assert!(text.contains("number 22"), "{text}");
    }

    #[test]
    fn fields_that_only_one_frame_has_are_shown_where_they_are() {
        let field = |name: &str, value: &str| Field { name: name.into(), value: value.into() };
        let left = [field("a", "1"), field("b", "2"), field("d", "4")];
        let right = [field("a", "1"), field("c", "3"), field("d", "4")];
        let rows = aligned(&left, &right);
        assert_eq!(
            rows,
            [
                ("a", Some("1"), Some("1")),
                ("b", Some("2"), None),
                ("c", None, Some("3")),
                ("d", Some("4"), Some("4")),
            ]
        );
    }
}
