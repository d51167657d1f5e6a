//! What a message repeats by the thousand, as tuples: no protobuf object stands in between.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

/// Of one record, so that it is taken apart without an allocation.
const FIELDS_MAX: usize = 8;

#[derive(Clone, Copy)]
enum Kind {
    Bytes,
    Int,
}

/// A field as it stands on the wire; Absent has the default of its kind.
#[derive(Clone, Copy)]
enum Found<'a> {
    Absent,
    Bytes(&'a [u8]),
    Int(u64),
}

/// A repeated field of some message, and the fields of what is repeated.
#[pyclass(frozen, module = "corum._transport")]
pub struct Records {
    number: u64,
    fields: Vec<(u64, Kind)>,
}

#[pymethods]
impl Records {
    #[new]
    fn new(number: u64, fields: Vec<(u64, String)>) -> PyResult<Self> {
        let kind = |(number, kind): (u64, String)| match kind.as_str() {
            "bytes" => Ok((number, Kind::Bytes)),
            "int" => Ok((number, Kind::Int)),
            _ => Err(PyTypeError::new_err(format!("unknown kind of field {kind:?}"))),
        };
        if fields.len() > FIELDS_MAX {
            return Err(PyValueError::new_err(format!("more than {FIELDS_MAX} fields")));
        }
        Ok(Records { number, fields: fields.into_iter().map(kind).collect::<PyResult<_>>()? })
    }

    /// The records, each a tuple of its fields in the order they were named in, and what else is
    /// in the message, unchanged.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        message: &[u8],
    ) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyBytes>)> {
        let records = PyList::empty(py);
        let mut rest = Vec::new();
        let mut data = message;
        while !data.is_empty() {
            let before = data;
            match field(&mut data).ok_or_else(malformed)? {
                (number, Found::Bytes(record)) if number == self.number => {
                    records.append(self.record(py, record)?)?;
                }
                _ => rest.extend_from_slice(&before[..before.len() - data.len()]),
            }
        }
        Ok((records, PyBytes::new(py, &rest)))
    }
}

impl Records {
    fn record<'py>(&self, py: Python<'py>, mut data: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
        let mut found = [Found::Absent; FIELDS_MAX];
        while !data.is_empty() {
            let (number, value) = field(&mut data).ok_or_else(malformed)?;
            if let Some(at) = self.fields.iter().position(|field| field.0 == number) {
                found[at] = value;
            }
        }
        let object = |(found, (_, kind)): (&Found<'_>, &(u64, Kind))| match (found, kind) {
            (Found::Bytes(bytes), Kind::Bytes) => Ok(PyBytes::new(py, bytes).into_any()),
            (Found::Int(int), Kind::Int) => Ok((*int as i64).into_pyobject(py)?.into_any()),
            (Found::Absent, Kind::Bytes) => Ok(PyBytes::new(py, b"").into_any()),
            (Found::Absent, Kind::Int) => Ok(0i64.into_pyobject(py)?.into_any()),
            _ => Err(malformed()),
        };
        let mut objects = Vec::with_capacity(self.fields.len());
        for pair in found.iter().zip(&self.fields) {
            objects.push(object(pair)?);
        }
        PyTuple::new(py, objects)
    }
}

fn malformed() -> PyErr {
    PyValueError::new_err("not a protobuf message")
}

/// One field off `data`: its number, and what it holds if that is bytes or a varint.
fn field<'a>(data: &mut &'a [u8]) -> Option<(u64, Found<'a>)> {
    let tag = varint(data)?;
    let found = match tag & 7 {
        0 => Found::Int(varint(data)?),
        1 => skip(data, 8)?,
        2 => {
            let size = usize::try_from(varint(data)?).ok()?;
            let (bytes, rest) = data.split_at_checked(size)?;
            *data = rest;
            Found::Bytes(bytes)
        }
        5 => skip(data, 4)?,
        _ => return None,
    };
    Some((tag >> 3, found))
}

fn skip<'a>(data: &mut &'a [u8], size: usize) -> Option<Found<'a>> {
    *data = data.get(size..)?;
    Some(Found::Absent)
}

fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
