//! The settings objects of the boundary and the plain rules behind them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MethodKind {
    Unary,
    ServerStream,
    ClientStream,
    Bidi,
}

impl MethodKind {
    /// Does the caller send exactly one message?
    pub fn takes_one(self) -> bool {
        matches!(self, MethodKind::Unary | MethodKind::ServerStream)
    }
}

pub struct Rules {
    pub methods: HashMap<String, (u16, MethodKind)>,
    pub services: std::collections::HashSet<String>,
    pub metadata_keys: Vec<String>,
    pub recv_max: usize,
    pub http_body_max: usize,
    pub header_max: usize,
    pub streams_max: u32,
    pub calls_max: usize,
    pub inbox_events_max: usize,
    pub inbox_bytes_max: usize,
    pub partial_max: usize,
    pub high_water: usize,
    pub low_water: usize,
    pub keepalive_min_time: Duration,
    pub keepalive_permit_without_stream: bool,
    pub keepalive_interval: Option<Duration>,
    pub keepalive_timeout: Duration,
    pub handshake_timeout: Duration,
}

/// Rules of one `Transport`.
#[pyclass(frozen, module = "corum._transport")]
pub struct Settings {
    pub rules: Arc<Rules>,
}

pub const CALLS_MAX: usize = 1 << 20;

fn method_kind(name: &str) -> PyResult<MethodKind> {
    match name {
        "unary" => Ok(MethodKind::Unary),
        "server_stream" => Ok(MethodKind::ServerStream),
        "client_stream" => Ok(MethodKind::ClientStream),
        "bidi" => Ok(MethodKind::Bidi),
        _ => Err(PyValueError::new_err(format!("unknown method kind {name:?}"))),
    }
}

pub fn nonzero(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

#[pymethods]
impl Settings {
    #[new]
    #[pyo3(signature = (
        *,
        methods = vec![],
        metadata_keys = vec![],
        recv_max_bytes = 4_194_304,
        http_body_max_bytes = 67_108_864,
        header_max_bytes = 1_048_576,
        streams_max = 4_294_967_295,
        calls_max = 1_048_576,
        inbox_events_max = 65_536,
        inbox_bytes_max = 268_435_456,
        partial_bytes_max = 536_870_912,
        high_water_bytes = 4_194_304,
        low_water_bytes = 1_048_576,
        keepalive_min_time_ms = 5_000,
        keepalive_permit_without_stream = false,
        keepalive_interval_ms = 7_200_000,
        keepalive_timeout_ms = 20_000,
        handshake_timeout_ms = 30_000,
    ))]
    #[allow(clippy::too_many_arguments)] // keyword-only: this is the settings object itself
    fn new(
        methods: Vec<(String, String)>,
        metadata_keys: Vec<String>,
        recv_max_bytes: usize,
        http_body_max_bytes: usize,
        header_max_bytes: usize,
        streams_max: u32,
        calls_max: usize,
        inbox_events_max: usize,
        inbox_bytes_max: usize,
        partial_bytes_max: usize,
        high_water_bytes: usize,
        low_water_bytes: usize,
        keepalive_min_time_ms: u64,
        keepalive_permit_without_stream: bool,
        keepalive_interval_ms: u64,
        keepalive_timeout_ms: u64,
        handshake_timeout_ms: u64,
    ) -> PyResult<Self> {
        if low_water_bytes > high_water_bytes {
            return Err(PyValueError::new_err("low_water_bytes is above high_water_bytes"));
        }
        if calls_max == 0 || calls_max > CALLS_MAX {
            return Err(PyValueError::new_err(format!("calls_max is not in 1..={CALLS_MAX}")));
        }
        if methods.len() > u16::MAX as usize {
            return Err(PyValueError::new_err("too many methods"));
        }
        let mut table = HashMap::new();
        let mut services = std::collections::HashSet::new();
        for (index, (path, kind)) in methods.into_iter().enumerate() {
            let kind = method_kind(&kind)?;
            let Some((service, _)) = path.strip_prefix('/').and_then(|p| p.rsplit_once('/')) else {
                return Err(PyValueError::new_err(format!("not /service/method: {path:?}")));
            };
            services.insert(service.to_owned());
            table.insert(path, (index as u16, kind));
        }
        let rules = Rules {
            methods: table,
            services,
            metadata_keys,
            recv_max: recv_max_bytes,
            http_body_max: http_body_max_bytes,
            header_max: header_max_bytes.max(1024),
            streams_max,
            calls_max,
            inbox_events_max: inbox_events_max.max(1),
            inbox_bytes_max: inbox_bytes_max.max(1),
            partial_max: partial_bytes_max,
            high_water: high_water_bytes,
            low_water: low_water_bytes,
            keepalive_min_time: Duration::from_millis(keepalive_min_time_ms),
            keepalive_permit_without_stream,
            keepalive_interval: nonzero(keepalive_interval_ms),
            keepalive_timeout: Duration::from_millis(keepalive_timeout_ms),
            handshake_timeout: Duration::from_millis(handshake_timeout_ms),
        };
        Ok(Settings { rules: Arc::new(rules) })
    }
}

impl Settings {
    pub fn default_rules() -> PyResult<Arc<Rules>> {
        let settings = Settings::new(
            vec![],
            vec![],
            4_194_304,
            67_108_864,
            1_048_576,
            u32::MAX,
            CALLS_MAX,
            65_536,
            268_435_456,
            536_870_912,
            4_194_304,
            1_048_576,
            5_000,
            false,
            7_200_000,
            20_000,
            30_000,
        )?;
        Ok(settings.rules)
    }
}
