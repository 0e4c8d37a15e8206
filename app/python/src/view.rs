//! How targets are.

use pyo3::prelude::*;

/// How a target is, at most a second ago.
#[pyclass(frozen, module = "baton")]
pub struct TargetView {
    /// The application, as "job@stack".
    #[pyo3(get)]
    target: String,
    /// "ready"; or why it is not chosen: "draining", "weight_zero"; "quiet", "stalled" and "failing" are chosen if no other is left.
    #[pyo3(get)]
    state: &'static str,
    /// Its share of new connections relative to the others', for clients that no policy is about.
    #[pyo3(get)]
    weight: u16,
    /// Where the weight comes from: "equal", "configured", "load" or "controller".
    #[pyo3(get)]
    weight_from: &'static str,
    /// Connections of its stack, all services together.
    #[pyo3(get)]
    connections: u64,
    /// Use of all processors of its stack, in thousandths, or None if it did not say.
    #[pyo3(get)]
    cpu_permille: Option<u16>,
    /// How full the fullest accept queue of its stack is, in thousandths, or None.
    #[pyo3(get)]
    accept_queue_permille: Option<u16>,
    /// Share of time in which some task of its stack waited for memory, in thousandths, or None.
    #[pyo3(get)]
    memory_pressure_permille: Option<u16>,
    /// Its listener takes no clients, only transferred connections.
    #[pyo3(get)]
    holds_accepts: bool,
}

impl TargetView {
    pub(crate) fn new(view: app::TargetView) -> Self {
        let load = view.load.as_ref();
        Self {
            target: view.target.to_string(),
            state: view.state.word(),
            weight: view.weight,
            weight_from: view.weight_from.word(),
            connections: view.connections,
            cpu_permille: load.map(|load| load.cpu_permille),
            accept_queue_permille: load.map(|load| load.accept_queue_permille),
            memory_pressure_permille: load.map(|load| load.memory_pressure_permille),
            holds_accepts: view.holds_accepts,
        }
    }
}
