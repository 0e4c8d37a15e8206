//! Connections that come.

use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::exception;

/// A connection that is offered: answer it once, by accept() or reject().
///
/// One that is forgotten is rejected. Its client is served by the application that has it until then.
#[pyclass(frozen, module = "baton")]
pub struct Offer {
    offer: Mutex<Option<app::Offer>>,
    /// (address, port) of the client.
    #[pyo3(get)]
    client: (String, u16),
    /// (address, port) that the client has connected to.
    #[pyo3(get)]
    dvipa: (String, u16),
    /// The job that it is for.
    #[pyo3(get)]
    job: String,
    /// The application that has it now, as "job@stack", or None if it is not known.
    #[pyo3(get)]
    giver: Option<String>,
    state: Option<Vec<u8>>,
}

impl Offer {
    pub(crate) fn new(offer: app::Offer) -> Self {
        Self {
            client: pair(offer.client()),
            dvipa: pair(offer.dvipa()),
            job: offer.job().to_string(),
            giver: offer.giver().map(ToString::to_string),
            state: offer.state().map(<[u8]>::to_vec),
            offer: Mutex::new(Some(offer)),
        }
    }

    fn take(&self) -> PyResult<app::Offer> {
        let taken = self.offer.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| PyValueError::new_err("this offer was answered already"))
    }
}

#[pymethods]
impl Offer {
    /// The application state that came with it, or None.
    #[getter]
    fn state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }

    /// Takes the connection, and waits until it is here: its socket.
    ///
    /// Raises Refused or Closed if it could not move after all: then it goes on where it was. Raises InDoubt if the agent ended
    /// meanwhile and did not come back.
    fn accept<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let offer = self.take()?;
        let connection = py.detach(|| offer.accept()).map_err(|e| exception(py, &e))?;
        socket(py, connection.stream)
    }

    /// Does not take it; the reason reaches the application that has it (at most 200 characters of it).
    fn reject(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let offer = self.take()?;
        py.detach(|| offer.reject(reason)).map_err(|e| exception(py, &e))
    }
}

/// A connection that was given to this application without asking it.
#[pyclass(frozen, module = "baton")]
pub struct Connection {
    /// Its socket.
    #[pyo3(get)]
    socket: Py<PyAny>,
    /// (address, port) of the client.
    #[pyo3(get)]
    client: (String, u16),
    /// (address, port) that the client has connected to.
    #[pyo3(get)]
    dvipa: (String, u16),
    /// The application that had it before, as "job@stack", or None if it is not known.
    #[pyo3(get)]
    giver: Option<String>,
    state: Option<Vec<u8>>,
}

/// What another application says.
#[pyclass(frozen, module = "baton")]
pub struct Heard {
    /// Who, as "job@stack".
    #[pyo3(get)]
    sender: String,
    /// The port that both have registered for.
    #[pyo3(get)]
    port: u16,
    /// (address, port) of the client whose connection it is about, or None.
    #[pyo3(get)]
    client: Option<(String, u16)>,
    message: Vec<u8>,
}

#[pymethods]
impl Heard {
    /// What it says.
    #[getter]
    fn message(&self) -> &[u8] {
        &self.message
    }
}

impl Heard {
    pub(crate) fn new(heard: app::Heard) -> Self {
        let app::Heard { from, port, client, bytes } = heard;
        Self { sender: from.to_string(), port, client: client.map(pair), message: bytes }
    }
}

#[pymethods]
impl Connection {
    /// The application state that came with it, or None.
    #[getter]
    fn state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }
}

impl Connection {
    pub(crate) fn new(py: Python<'_>, connection: app::Connection) -> PyResult<Self> {
        let app::Connection { stream, client, dvipa, giver, state } = connection;
        let (client, dvipa) = (pair(client), pair(dvipa));
        let giver = giver.map(|giver| giver.to_string());
        Ok(Self { socket: socket(py, stream)?.unbind(), client, dvipa, giver, state })
    }
}

fn pair(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

/// Makes Python's own socket of a connection.
fn socket(py: Python<'_>, stream: std::net::TcpStream) -> PyResult<Bound<'_, PyAny>> {
    let named = PyDict::new(py);
    named.set_item("fileno", stream.into_raw_fd())?;
    py.import("socket")?.call_method("socket", (), Some(&named))
}
