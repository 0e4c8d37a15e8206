//! Connections that come.

use std::os::fd::IntoRawFd;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::exception;

/// A connection as Python has it: (socket, state).
pub(crate) type Arrived<'py> = (Bound<'py, PyAny>, Option<Vec<u8>>);

/// A connection that is offered: answer it once, by accept() or reject(). One that is forgotten is rejected.
#[pyclass(frozen)]
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
    state: Option<Vec<u8>>,
}

impl Offer {
    pub(crate) fn new(offer: app::Offer) -> Self {
        let pair = |address: std::net::SocketAddr| (address.ip().to_string(), address.port());
        Self {
            client: pair(offer.client()),
            dvipa: pair(offer.dvipa()),
            job: offer.job().to_string(),
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
    /// bytes that came with it, or None.
    #[getter]
    fn state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }

    /// accept() -> socket.socket: takes the connection, and waits until it is here. Raises Refused or Closed if it could not
    /// move after all: it goes on where it was.
    fn accept<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let offer = self.take()?;
        let connection = py.detach(|| offer.accept()).map_err(|e| exception(py, &e))?;
        Ok(arrived(py, connection)?.0)
    }

    /// reject(reason): does not take it; the reason reaches the application that has it.
    fn reject(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let offer = self.take()?;
        py.detach(|| offer.reject(reason)).map_err(|e| exception(py, &e))
    }
}

/// Makes Python's own socket of a connection.
pub(crate) fn arrived<'py>(py: Python<'py>, connection: app::Connection) -> PyResult<Arrived<'py>> {
    let named = PyDict::new(py);
    named.set_item("fileno", connection.stream.into_raw_fd())?;
    let socket = py.import("socket")?.call_method("socket", (), Some(&named))?;
    Ok((socket, connection.state))
}
