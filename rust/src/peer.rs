//! The other end of a connection, as Python sees it.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::der;

pub struct PeerInfo {
    pub address: String,
    pub tls: bool,
    pub server_name: Option<String>,
    pub certificate: Option<Vec<u8>>,
    names: OnceLock<der::Names>,
    object: PyOnceLock<Py<Peer>>,
}

impl PeerInfo {
    pub fn new(address: String) -> Self {
        PeerInfo {
            address,
            tls: false,
            server_name: None,
            certificate: None,
            names: OnceLock::new(),
            object: PyOnceLock::new(),
        }
    }

    pub fn object<'py>(self: &Arc<Self>, py: Python<'py>) -> PyResult<Bound<'py, Peer>> {
        let new = || Py::new(py, Peer { info: Arc::clone(self) });
        Ok(self.object.get_or_try_init(py, new)?.bind(py).clone())
    }

    fn names(&self) -> &der::Names {
        self.names
            .get_or_init(|| self.certificate.as_deref().and_then(der::names).unwrap_or_default())
    }
}

#[pyclass(frozen, module = "corum._transport")]
pub struct Peer {
    info: Arc<PeerInfo>,
}

#[pymethods]
impl Peer {
    #[getter]
    fn address(&self) -> &str {
        &self.info.address
    }

    #[getter]
    fn tls(&self) -> bool {
        self.info.tls
    }

    #[getter]
    fn server_name(&self) -> Option<&str> {
        self.info.server_name.as_deref()
    }

    #[getter]
    fn common_name(&self) -> Option<&str> {
        self.info.certificate.as_ref().map(|_| self.info.names().common_name.as_str())
    }

    #[getter]
    fn dns_names(&self) -> Vec<String> {
        self.info.names().dns.clone()
    }

    #[getter]
    fn ip_addresses(&self) -> Vec<String> {
        self.info.names().ips.iter().map(ToString::to_string).collect()
    }

    #[getter]
    fn certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.info.certificate.as_deref().map(|der| PyBytes::new(py, der))
    }

    fn __repr__(&self) -> String {
        format!("Peer({:?})", self.info.address)
    }
}
