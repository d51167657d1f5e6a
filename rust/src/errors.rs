//! The exceptions of the boundary.

use std::io;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::inbox::Headers;

pyo3::create_exception!(
    corum._transport,
    TransportError,
    PyOSError,
    "The world refused: an address in use, a file missing, a closed transport."
);

/// With errno, so that `error.errno` and `error.strerror` are set as everywhere in Python.
pub fn io(error: &io::Error, what: &str) -> PyErr {
    match error.raw_os_error() {
        Some(code) => TransportError::new_err((code, format!("{what}: {}", os_text(error)))),
        None => TransportError::new_err(format!("{what}: {error}")),
    }
}

fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

pub fn closed() -> PyErr {
    TransportError::new_err("the transport is closed")
}

/// Written in Python, since the stable ABI of 3.11 cannot extend exceptions with fields.
const RPC_ERROR: &std::ffi::CStr = c"
class RpcError(Exception):
    '''A gRPC call ended with a status that is not OK (or never reached the server).'''

    def __init__(self, code, text, metadata=()):
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.metadata = list(metadata)

    def __str__(self):
        return f'code {self.code}: {self.text}'
";

/// The class, made at first use.
pub fn rpc_error(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make = || -> PyResult<Py<PyAny>> {
        let names = PyDict::new(py);
        names.set_item("__name__", "corum._transport")?;
        py.run(RPC_ERROR, Some(&names), None)?;
        Ok(names.as_any().get_item("RpcError")?.unbind())
    };
    Ok(CLASS.get_or_try_init(py, make)?.bind(py).clone())
}

pub fn rpc(py: Python<'_>, code: u32, text: String, metadata: Headers) -> PyErr {
    let error = rpc_error(py).and_then(|class| class.call1((code, text, metadata)));
    error.map_or_else(|failure| failure, PyErr::from_value)
}
