//! The state of a moved connection: what decodes is possible, and encodes to the same.

use model::ConnectionState;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(state) = ConnectionState::decode(data) else { return };
    state.check().expect("what was read has been checked");
    let (sent, unsent) = state.send.split();
    assert_eq!(sent.len() + unsent.len(), state.send.bytes.len());
    let again = ConnectionState::decode(&state.encode()).expect("what was written is read");
    assert_eq!(again, state);
}
