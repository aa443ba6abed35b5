use super::{Config, ConfigError};
use std::ffi::OsString;

const PREFIX: &str = "TARSIER__";

/// A variable with our prefix, and the key it sets.
pub(super) struct Variable {
    name: String,
    path: Vec<String>,
    value: serde_json::Value,
}

impl Variable {
    pub(super) fn path(&self) -> String {
        self.path.join(".")
    }

    /// `None` where the kind of value that stands there by default cannot be made of the text.
    fn value_like(default: &serde_json::Value, text: &str) -> Option<serde_json::Value> {
        Some(match default {
            serde_json::Value::Number(_) => text.trim().parse::<u64>().ok()?.into(),
            serde_json::Value::Bool(_) => text.trim().parse::<bool>().ok()?.into(),
            serde_json::Value::Array(_) => list(text).into(),
            _ => text.into(),
        })
    }

    pub(super) fn layered(&self) -> config::Value {
        match &self.value {
            serde_json::Value::Number(number) => number.as_u64().into(),
            serde_json::Value::Bool(switch) => (*switch).into(),
            serde_json::Value::Array(items) => items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().into(),
            text => text.as_str().into(),
        }
    }

    pub(super) fn error(&self, message: impl ToString) -> ConfigError {
        ConfigError::Variable {
            name: self.name.clone(),
            message: message.to_string().replace('\n', " "),
        }
    }

    /// serde_json words what is wrong with a value as the reader of the file does; `config` has words of its own.
    pub(super) fn explain(&self, err: &config::ConfigError) -> ConfigError {
        let within = |value, key: &String| serde_json::json!({ key: value });
        let alone = self.path.iter().rev().fold(self.value.clone(), within);
        match serde_json::from_value::<Config>(alone) {
            Err(plain) => self.error(plain),
            Ok(_) => self.error(err),
        }
    }
}

/// Refuses a variable that looks like ours and names no key: somebody believes it does something.
pub(super) fn variables(environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<Variable>, ConfigError> {
    let known = serde_json::to_value(Config::default()).expect("a config has no maps with odd keys");
    let mut variables = Vec::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let refuse = |message: String| ConfigError::Variable {
            name: name.clone(),
            message,
        };
        let (path, default) = find(&known, rest).map_err(refuse)?;
        let Some(text) = value.to_str() else {
            return Err(refuse("the value is not UTF-8".to_owned()));
        };
        let Some(value) = Variable::value_like(default, text) else {
            let wanted = if default.is_boolean() {
                "true or false"
            } else {
                "a whole number"
            };
            return Err(refuse(format!("{text:?} is not {wanted}")));
        };
        variables.push(Variable { path, value, name });
    }
    // The environment has no order, and the message must not depend on chance.
    variables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(variables)
}

/// The keys to the one that `name` names, and what stands there by default.
fn find<'a>(known: &'a serde_json::Value, name: &str) -> Result<(Vec<String>, &'a serde_json::Value), String> {
    let mut path: Vec<String> = Vec::new();
    let mut found = known;
    let mut names = name.split("__");
    // Until it is no section; a section that is named alone lacks its key.
    while let Some(keys) = found.as_object() {
        let name = names.next().unwrap_or_default();
        let Some((key, below)) = keys.iter().find(|(key, _)| key.to_ascii_uppercase() == name) else {
            let keys: Vec<_> = keys.keys().map(|key| key.to_ascii_uppercase()).collect();
            let keys = keys.join(", ");
            return Err(match path.as_slice() {
                [] => format!("no such section, there are {keys}"),
                path => format!("section {} has no such key, there are {keys}", path.join(".")),
            });
        };
        path.push(key.clone());
        found = below;
    }
    match names.next() {
        None => Ok((path, found)),
        Some(_) => Err(format!("{} is a key, and has none below it", path.join("."))),
    }
}

/// Commas separate; nothing at all is the empty list.
fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}
