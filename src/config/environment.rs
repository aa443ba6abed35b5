use super::{Config, ConfigError};
use std::ffi::OsString;

const PREFIX: &str = "TARSIER__";

/// A variable with our prefix, and the key it sets.
pub(super) struct Variable {
    name: String,
    section: String,
    key: String,
    value: serde_json::Value,
}

impl Variable {
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// `None` where the kind of value that stands there by default cannot be made of the text.
    fn value_like(default: &serde_json::Value, text: &str) -> Option<serde_json::Value> {
        Some(match default {
            serde_json::Value::Number(_) => text.trim().parse::<u64>().ok()?.into(),
            serde_json::Value::Array(_) => list(text).into(),
            _ => text.into(),
        })
    }

    pub(super) fn layered(&self) -> config::Value {
        match &self.value {
            serde_json::Value::Number(number) => number.as_u64().into(),
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
        let alone = serde_json::json!({ &self.section: { &self.key: &self.value } });
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
        let upper = |key: &str| key.to_ascii_uppercase();
        let mut parts = rest.splitn(2, "__");
        let (section, key) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let sections = known.as_object().into_iter().flatten();
        let Some((section, keys)) = sections.clone().find(|(known, _)| upper(known) == section) else {
            let sections: Vec<_> = sections.map(|(known, _)| upper(known)).collect();
            return Err(refuse(format!("no such section, there are {}", sections.join(", "))));
        };
        let keys = keys.as_object().into_iter().flatten();
        let Some((key, default)) = keys.clone().find(|(known, _)| upper(known) == key) else {
            let keys: Vec<_> = keys.map(|(known, _)| upper(known)).collect();
            return Err(refuse(format!(
                "section {section} has no such key, there are {}",
                keys.join(", ")
            )));
        };
        let Some(text) = value.to_str() else {
            return Err(refuse("the value is not UTF-8".to_owned()));
        };
        let Some(value) = Variable::value_like(default, text) else {
            return Err(refuse(format!("{text:?} is not a whole number")));
        };
        variables.push(Variable {
            section: section.clone(),
            key: key.clone(),
            value,
            name,
        });
    }
    // The environment has no order, and the message must not depend on chance.
    variables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(variables)
}

/// Commas separate; nothing at all is the empty list.
fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}
