use super::{CliError, ConfigArgs, print};
use crate::config::{Overrides, load};
use std::io::Write;

pub fn run(args: &ConfigArgs, out: &mut impl Write) -> Result<(), CliError> {
    let config = load(args.file.path(), &Overrides::default())?;
    if args.validate {
        return print(out, b"ok\n");
    }
    let text = serde_yaml_ng::to_string(&config).expect("a config is plain data");
    print(out, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::FileArgs,
        config::{Config, ConfigError},
    };
    use std::fs;

    fn ran(file: &str, validate: bool) -> Result<String, CliError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.yaml");
        fs::write(&path, file).unwrap();
        let args = ConfigArgs {
            file: FileArgs { config: Some(path) },
            validate,
        };
        let mut out = Vec::new();
        run(&args, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn prints_what_is_read_back_as_the_same() {
        let text = ran("kernel: {batch: 7}\nhost: {root: '7'}\nlog: {level: debug}", false).unwrap();
        let config: Config = serde_yaml_ng::from_str(&text).unwrap();
        assert_eq!((config.kernel.batch, config.host.root.to_str()), (7, Some("7")));
        assert!(
            text.contains("  level: debug\n") && text.contains("  watchdog: 30s\n"),
            "{text}"
        );
    }

    #[test]
    fn validates() {
        assert_eq!(ran("kernel: {batch: 7}", true).unwrap(), "ok\n");
        assert!(matches!(
            ran("kernel: {batch: 0}", true),
            Err(CliError::Config(ConfigError::File {
                line: 1,
                column: 17,
                ..
            }))
        ));
    }
}
