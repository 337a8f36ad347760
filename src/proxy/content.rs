//! Content that has to be JSON, perhaps as a schema has it.
//!
//! Asked by [`super`] once the content was read, before any of it is sent on. The schema is read when the configuration is.

use crate::policy::requirement::{Json, Lacks};
use jsonschema::{PatternOptions, Validator};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// What content has to be.
#[derive(Debug)]
pub struct Shape(Option<Validator>);

/// Why a schema is none. Its text is what the operator sees.
#[derive(Debug, thiserror::Error)]
#[error("require.json: {0}: {1}")]
pub struct SchemaError(String, String);

impl Shape {
    /// Reads the schema, if there is one.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(json: &Json) -> Result<Arc<Self>, SchemaError> {
        let Json::Schema(path) = json else {
            return Ok(Arc::new(Shape(None)));
        };
        let wrong = |why: String| SchemaError(path.display().to_string(), why);
        let schema = read(path).map_err(wrong)?;
        // Patterns that need no going back: nobody can have one search for minutes.
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        let validator = options.build(&schema);
        let validator = validator.map_err(|e| wrong(e.to_string()))?;
        Ok(Arc::new(Shape(Some(validator))))
    }

    /// Whether content is as it has to be.
    ///
    /// # Errors
    /// What it is not. None of its values is in that.
    pub(super) fn judge(&self, content: &[u8]) -> Result<(), Lacks> {
        let malformed = |e: &serde_json::Error| {
            Lacks::Json(format!("line {}, column {}", e.line(), e.column()))
        };
        let Some(validator) = &self.0 else {
            let read = serde_json::from_slice::<IgnoredAny>(content);
            return read.map(|_| ()).map_err(|e| malformed(&e));
        };
        let value: Value = serde_json::from_slice(content).map_err(|e| malformed(&e))?;
        validator.validate(&value).map_err(|e| {
            let place = e.instance_path().to_string();
            let place = if place.is_empty() { "/" } else { &place };
            Lacks::Schema(format!("at {place}, {}", e.masked_with("the value")))
        })
    }
}

fn read(path: &Path) -> Result<Value, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    serde_json::from_slice(&text).map_err(|e| format!("it is not JSON: {e}"))
}
