//! What configurations mean, remembered by their bytes: a query over many rows compiles each once.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::Datum;
use serde_json::Value;

use crate::error::Error;
use crate::pg::jsonb;

/// More are not in use at once.
const MAX_REMEMBERED: usize = 64;

/// Compiled forms of jsonb values.
pub(crate) struct Remembered<T> {
    last: Option<(Box<[u8]>, Rc<T>)>,
    others: HashMap<Box<[u8]>, Rc<T>>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self {
            last: None,
            others: HashMap::new(),
        }
    }
}

impl<T> Remembered<T> {
    /// The compiled form of a document, by `compile` when it is not known yet.
    pub(crate) fn get(
        &mut self,
        document: Datum,
        compile: impl FnOnce(&Value) -> Result<T, Error>,
    ) -> Result<Rc<T>, Error> {
        jsonb::with_bytes(document, |bytes| {
            match &self.last {
                Some((known, compiled)) if **known == *bytes => return Ok(Rc::clone(compiled)),
                _ => {}
            }
            let compiled = match self.others.get(bytes) {
                Some(compiled) => Rc::clone(compiled),
                None => {
                    let json = jsonb::to_json(document).ok_or(Error::TooDeep)?;
                    let compiled = Rc::new(compile(&json)?);
                    if self.others.len() >= MAX_REMEMBERED {
                        self.others.clear();
                    }
                    self.others.insert(bytes.into(), Rc::clone(&compiled));
                    compiled
                }
            };
            self.last = Some((bytes.into(), Rc::clone(&compiled)));
            Ok(compiled)
        })
    }
}
