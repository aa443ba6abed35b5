use super::*;
use crate::config::{Filters, Label, LogLevel};
use std::fs;

struct Scene {
    admin: Admin,
    file: PathBuf,
    told: Arc<parking_lot::Mutex<Vec<Arc<Filters>>>>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let file = dir.path().join("t.yaml");
        let supervisor = FakeSupervisor {
            config_file: Some(file.clone()),
            ..supervisor()
        };
        let told = Arc::clone(&supervisor.filters);
        actix_rt::spawn(serve(listener, supervisor.faces().0).unwrap());
        let admin = Admin { dir };
        Self { admin, file, told }
    }

    async fn reload(&self, text: &str) -> Result<Value, (u16, String)> {
        fs::write(&self.file, text).unwrap();
        let client = Client::new(self.admin.socket());
        let answer = actix_rt::task::spawn_blocking(move || client.post("/api/v1/reload")).await;
        match answer.unwrap() {
            Ok(body) => Ok(serde_json::from_slice(&body).unwrap()),
            Err(ClientError::Refused { status, message }) => Err((status.as_u16(), message)),
            Err(other) => panic!("{other}"),
        }
    }

    async fn config(&self) -> Config {
        serde_json::from_value(self.admin.get("/api/v1/config").await.unwrap()).unwrap()
    }
}

#[actix::test]
async fn what_may_change_changes_and_a_wrong_file_is_refused_whole() {
    let scene = Scene::new();
    let text = "filters: {deny: [secret]}\nlog: {level: debug}\nmetrics: {labels: [pod]}\nkernel: {batch: 7}";
    let expected =
        json!({"changed": ["filters.deny", "log.level", "metrics.labels"], "needs_restart": ["kernel.batch"]});
    assert_eq!(scene.reload(text).await, Ok(expected));
    let config = scene.config().await;
    assert_eq!(
        (config.log.level, &*config.metrics.labels),
        (LogLevel::Debug, &[Label::Pod][..])
    );
    assert_eq!(config.kernel.batch, Config::default().kernel.batch);
    let told = scene.told.lock().clone();
    assert_eq!(told.len(), 1);
    assert_eq!(*told[0], config.filters);

    let (status, message) = scene.reload("filters:\n  deny:\n    - a(b\n").await.unwrap_err();
    assert_eq!(status, 422);
    let expected = "t.yaml, line 3, column 7: filters.deny[0]: \"a(b\" is no regular expression: unclosed group";
    assert!(message.ends_with(expected), "{message}");
    assert_eq!((scene.config().await, scene.told.lock().len()), (config, 1));
    fs::remove_file(&scene.file).unwrap();
}

#[actix::test]
async fn a_reload_is_no_question() {
    let scene = Scene::new();
    let answer = scene.admin.get("/api/v1/reload").await;
    assert_eq!(answer, Err((405, "only POST is answered here".to_owned())));
}

#[actix::test]
async fn the_subcommand_says_what_came_of_it() {
    let scene = Scene::new();
    let run = async |text: &str| {
        fs::write(&scene.file, text).unwrap();
        let args = cli::ReloadArgs {
            json: false,
            admin: cli::AdminArgs {
                admin_socket: Some(scene.admin.socket()),
            },
        };
        let mut out = Vec::new();
        let ran = actix_rt::task::spawn_blocking(move || cli::reload::run(&args, &mut out).map(|()| out)).await;
        ran.unwrap().map(|out| String::from_utf8(out).unwrap())
    };
    let said = run("filters: {deny: [secret]}\nkernel: {batch: 7}\nlog: {level: warn}")
        .await
        .unwrap();
    assert_eq!(
        said,
        "changed        filters.deny, log.level\nneeds restart  kernel.batch\n"
    );
    let said = run("filters: {deny: [secret]}\nlog: {level: warn}").await.unwrap();
    assert_eq!(said, "nothing has changed\n");
    let refused = run("log: {level: loud}").await.unwrap_err().to_string();
    assert!(refused.contains("line 1, column 14: log.level"), "{refused}");
}
