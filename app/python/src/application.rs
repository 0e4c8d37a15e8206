//! Registration, targets, and what moves connections.

use std::net::IpAddr;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use app::{Consent, Error, Registration, Target, Terms, Unacknowledged};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::exception;
use crate::offer::{Arrived, Offer, arrived};

/// How long a call waits before it looks whether a signal has come.
const SIGNALS: Duration = Duration::from_millis(100);

/// An application that the agent knows. Iterating over it gives offers, for ever. When the agent ends and comes back, it is
/// registered again without a call.
#[pyclass(subclass, frozen)]
pub struct Application(Box<dyn Deref<Target = app::Application> + Send + Sync>);

/// RoutingApplication(job, dvipa, ports, *, socket=None): talks to clients first and decides where each connection goes.
///
/// On a stack that does not own the DVIPA this waits until it does. `socket` is the agent's control socket. It is offered
/// connections once it has called next_offer(), take_connection() or fileno(), or was iterated over.
#[pyclass(extends = Application, frozen)]
pub struct RoutingApplication;

#[pymethods]
impl RoutingApplication {
    #[new]
    #[pyo3(signature = (job, dvipa, ports, *, socket = None))]
    fn new(
        py: Python<'_>,
        job: &str,
        dvipa: &str,
        ports: Vec<u16>,
        socket: Option<PathBuf>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let registration = registration(job, dvipa, &ports, socket)?;
        let made = py.detach(|| app::RoutingApplication::register(&registration));
        let application = Application(Box::new(made.map_err(|e| exception(py, &e))?));
        Ok(PyClassInitializer::from(application).add_subclass(Self))
    }
}

/// TargetApplication(job, dvipa, ports, *, hold_accepts=False, socket=None): connections are transferred to it.
///
/// With `hold_accepts` its listener gets no new connections, only transferred ones.
#[pyclass(extends = Application, frozen)]
pub struct TargetApplication;

#[pymethods]
impl TargetApplication {
    #[new]
    #[pyo3(signature = (job, dvipa, ports, *, hold_accepts = false, socket = None))]
    fn new(
        py: Python<'_>,
        job: &str,
        dvipa: &str,
        ports: Vec<u16>,
        hold_accepts: bool,
        socket: Option<PathBuf>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let registration = registration(job, dvipa, &ports, socket)?.hold_accepts(hold_accepts);
        let made = py.detach(|| app::TargetApplication::register(&registration));
        let application = Application(Box::new(made.map_err(|e| exception(py, &e))?));
        Ok(PyClassInitializer::from(application).add_subclass(Self))
    }
}

#[pymethods]
impl Application {
    /// targets(port) -> list of "job@stack": the targets of one of its ports now, sorted.
    fn targets(&self, py: Python<'_>, port: u16) -> PyResult<Vec<String>> {
        let targets = py.detach(|| self.0.targets(port)).map_err(|e| exception(py, &e))?;
        Ok(texts(&targets))
    }

    /// targets_beyond(port, known, timeout=None): the targets once they are not `known` any longer, or `known` when
    /// `timeout` seconds are over.
    #[pyo3(signature = (port, known, timeout = None))]
    fn targets_beyond(
        &self,
        py: Python<'_>,
        port: u16,
        known: Vec<String>,
        timeout: Option<f64>,
    ) -> PyResult<Vec<String>> {
        let known: Vec<Target> = known.iter().map(|text| target(text)).collect::<PyResult<_>>()?;
        let changed = patiently(py, timeout, |step| {
            let now = self.0.targets_beyond(port, &known, Some(step))?;
            Ok(Some(now).filter(|now| *now != known))
        })?;
        Ok(texts(&changed.unwrap_or(known)))
    }

    /// transfer(sock, target, *, state=None, unacknowledged="refuse", give_back=b""): moves a connection to a target that accepts it.
    ///
    /// `sock` is closed once it has moved; nothing is sent to the client. `state` is bytes for the target application.
    /// `unacknowledged` says what to do about bytes that the client has not acknowledged: "refuse", "carry", or a number of
    /// seconds to wait for it. `give_back` is the last bytes that were read from it, at most 32 KiB: whoever gets it reads them
    /// first. Raises Refused if it does not move; then it goes on here.
    #[pyo3(signature = (sock, target, *, state = None, unacknowledged = None, give_back = None))]
    fn transfer(
        &self,
        sock: &Bound<'_, PyAny>,
        target: &str,
        state: Option<&[u8]>,
        unacknowledged: Option<&Bound<'_, PyAny>>,
        give_back: Option<&[u8]>,
    ) -> PyResult<()> {
        let to = self::target(target)?;
        self.moved(sock, Some(&to), Consent::Asked, terms(state, unacknowledged, give_back)?)
    }

    /// give_connection(sock, target, *, state=None, unacknowledged="refuse", give_back=b""): the same without asking the target, which
    /// takes it with take_connection().
    #[pyo3(signature = (sock, target, *, state = None, unacknowledged = None, give_back = None))]
    fn give_connection(
        &self,
        sock: &Bound<'_, PyAny>,
        target: &str,
        state: Option<&[u8]>,
        unacknowledged: Option<&Bound<'_, PyAny>>,
        give_back: Option<&[u8]>,
    ) -> PyResult<()> {
        let to = self::target(target)?;
        self.moved(sock, Some(&to), Consent::Presumed, terms(state, unacknowledged, give_back)?)
    }

    /// complete(sock, *, state=None, unacknowledged="refuse", give_back=b""): the client's transaction is complete: moves the connection
    /// to the routing application of its DVIPA and port.
    #[pyo3(signature = (sock, *, state = None, unacknowledged = None, give_back = None))]
    fn complete(
        &self,
        sock: &Bound<'_, PyAny>,
        state: Option<&[u8]>,
        unacknowledged: Option<&Bound<'_, PyAny>>,
        give_back: Option<&[u8]>,
    ) -> PyResult<()> {
        self.moved(sock, None, Consent::Asked, terms(state, unacknowledged, give_back)?)
    }

    /// next_offer(timeout=None) -> Offer: the next connection that is offered, or None when `timeout` seconds are over.
    #[pyo3(signature = (timeout = None))]
    fn next_offer(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Offer>> {
        let offer = patiently(py, timeout, |step| self.0.next_offer(Some(step)))?;
        Ok(offer.map(Offer::new))
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Offer>> {
        self.next_offer(py, None)
    }

    /// take_connection(timeout=None) -> (socket, state): the next connection that was given to this application without
    /// asking it, or None when `timeout` seconds are over. One that nobody takes within a minute is closed.
    #[pyo3(signature = (timeout = None))]
    fn take_connection<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Arrived<'py>>> {
        let taken = patiently(py, timeout, |step| self.0.take_connection(Some(step)))?;
        taken.map(|connection| arrived(py, connection)).transpose()
    }

    /// fileno() -> int: for select and the like: readable exactly while next_offer() or take_connection() would return with a
    /// timeout of 0. It stays the same when the agent ends and comes back.
    fn fileno(&self) -> RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0.descriptor())
    }
}

impl Application {
    fn moved(
        &self,
        sock: &Bound<'_, PyAny>,
        to: Option<&Target>,
        consent: Consent,
        terms: Terms<'_>,
    ) -> PyResult<()> {
        let py = sock.py();
        let fd: RawFd = sock.call_method0("fileno")?.extract()?;
        if fd < 0 {
            return Err(PyValueError::new_err("the socket is closed: pass an open one"));
        }
        // SAFETY: the socket is open, as it has just said, and stays so until the next line has its own descriptor.
        let held = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        let result = py.detach(|| {
            use std::os::fd::AsFd;
            self.0.move_connection(held.as_fd(), to, consent, &terms)
        });
        result.map_err(|e| exception(py, &e))?;
        // `close()` would leave it open for files that were made of it.
        let fd = sock.call_method0("detach")?;
        py.import("os")?.call_method1("close", (fd,))?;
        Ok(())
    }
}

fn terms<'a>(
    state: Option<&'a [u8]>,
    unacknowledged: Option<&Bound<'_, PyAny>>,
    give_back: Option<&'a [u8]>,
) -> PyResult<Terms<'a>> {
    let unacknowledged = unacknowledged.map_or(Ok(Unacknowledged::Refuse), what_to_do)?;
    let terms = Terms::new().unacknowledged(unacknowledged).give_back(give_back.unwrap_or_default());
    Ok(state.map_or(terms, |state| terms.state(state)))
}

fn registration(job: &str, dvipa: &str, ports: &[u16], socket: Option<PathBuf>) -> PyResult<Registration> {
    let dvipa: IpAddr =
        dvipa.parse().map_err(|_| PyValueError::new_err(format!("`{dvipa}` is not an IP address")))?;
    let made = Registration::new(job, dvipa, ports).map_err(|e| PyValueError::new_err(e.to_string()))?;
    Ok(match socket {
        Some(path) => made.socket(path),
        None => made,
    })
}

/// Waits in short steps, so that signals are heard; `None` when `timeout` (seconds) is over.
fn patiently<T: Send>(
    py: Python<'_>,
    timeout: Option<f64>,
    step: impl Fn(Duration) -> Result<Option<T>, Error> + Sync,
) -> PyResult<Option<T>> {
    let limit = timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)));
    let limit = limit.transpose().map_err(|e| PyValueError::new_err(e.to_string()))?;
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = deadline.map_or(SIGNALS, |at| at.saturating_duration_since(Instant::now()).min(SIGNALS));
        match py.detach(|| step(left)).map_err(|e| exception(py, &e))? {
            Some(found) => return Ok(Some(found)),
            None if deadline.is_some_and(|at| at <= Instant::now()) => return Ok(None),
            None => py.check_signals()?,
        }
    }
}

fn target(text: &str) -> PyResult<Target> {
    text.parse().map_err(|e: app::BadTarget| PyValueError::new_err(e.to_string()))
}

fn texts(targets: &[Target]) -> Vec<String> {
    targets.iter().map(ToString::to_string).collect()
}

fn what_to_do(unacknowledged: &Bound<'_, PyAny>) -> PyResult<Unacknowledged> {
    if let Ok(seconds) = unacknowledged.extract::<f64>() {
        let at_most =
            Duration::try_from_secs_f64(seconds).map_err(|e| PyValueError::new_err(e.to_string()))?;
        return Ok(app::wait(at_most));
    }
    match unacknowledged.extract::<String>().as_deref() {
        Ok("refuse") => Ok(Unacknowledged::Refuse),
        Ok("carry") => Ok(Unacknowledged::Carry),
        _ => Err(PyTypeError::new_err("unacknowledged is \"refuse\", \"carry\" or seconds to wait")),
    }
}
