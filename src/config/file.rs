use super::{Config, ConfigError, locate::locate, validate::Invalid};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self {
                path: path.to_owned(),
                text,
            }),
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    pub(super) fn read_if_there(path: &Path) -> Result<Option<Self>, ConfigError> {
        match Self::read(path) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        }
    }

    /// Alone, before the environment: what is wrong in the file is wrong even if a variable covers it.
    pub(super) fn parse(&self) -> Result<Config, ConfigError> {
        // An `Option`, so that a file of comments is an empty one.
        let config: Config = serde_yaml_ng::from_str::<Option<Config>>(&self.text)
            .map_err(|err| self.yaml_error(&err))?
            .unwrap_or_default();
        match config.validate() {
            Ok(()) => Ok(config),
            Err(invalid) => Err(self.invalid(&invalid)),
        }
    }

    fn yaml_error(&self, err: &serde_yaml_ng::Error) -> ConfigError {
        let (line, column) = err.location().map_or((1, 1), |at| (at.line(), at.column()));
        let message = err.to_string();
        let position = format!(" at line {line} column {column}");
        self.error(line, column, message.strip_suffix(&position).unwrap_or(&message))
    }

    fn invalid(&self, invalid: &Invalid) -> ConfigError {
        let at = invalid.keys.iter().find_map(|key| locate(&self.text, key));
        let (line, column) = at.map_or((1, 1), |at| (at.line, at.column));
        self.error(line, column, &invalid.to_string())
    }

    fn error(&self, line: usize, column: usize, message: &str) -> ConfigError {
        ConfigError::File {
            path: self.path.clone(),
            line,
            column,
            message: message.replace('\n', " "),
        }
    }
}
