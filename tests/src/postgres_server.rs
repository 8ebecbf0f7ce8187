//! Real PostgreSQL servers.
//!
//! Each server has a free port and a temporary folder of its own and is stopped when it is dropped; in a panic its log
//! is printed first. The binaries are `initdb` and `postgres`, from the folder that `POSTGRES_BIN` names, the path, or
//! Debian's packages. Missing binaries fail the test. PostgreSQL refuses to be run by root, so root runs it as somebody
//! else.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness that cannot do its work fails the test"
)]

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{ports::free_port, process::Process};

const START_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// One server.
#[derive(Debug)]
pub struct PostgresServer {
    process: Option<Process>,
    port: u16,
    dir: TempDir,
    settings: Vec<String>,
    user: Option<User>,
}

impl PostgresServer {
    /// A server with the default settings: it writes every acknowledged change to disk first.
    ///
    /// # Panics
    ///
    /// Where a binary is missing or the server does not start. So do all other functions here.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with these settings besides port, folder and log.
    pub async fn start_with(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let user = User::other_than_root(dir.path());
        copy_template(&dir.path().join("data"), user);
        if let Some(user) = user {
            user.own(dir.path());
        }
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Self { process: None, port: free_port(), dir, settings, user };
        for _ in 0..5 {
            server.spawn();
            if server.wait_until_ready().await {
                return server;
            }
            server.port = free_port();
        }
        panic!("the server did not start:\n{}", server.log());
    }

    /// Its `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its URL, for the superuser.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// A fresh connection, for the test's own statements.
    pub async fn client(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("a connection")
    }

    /// Runs statements on a fresh connection.
    pub async fn execute(&self, sql: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        statements.execute(&mut self.client().await).await.expect("a statement that works");
    }

    /// Kills the process, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Shuts the server down as its administrator does: sessions are ended, and told so.
    pub fn shut_down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end("-INT");
        }
    }

    /// Starts the process again as a standby, which takes no writes.
    pub async fn demote(&mut self) {
        self.shut_down();
        let signal = self.dir.path().join("data/standby.signal");
        fs::write(&signal, "").expect("a file in our folder");
        if let Some(user) = self.user {
            user.own(&signal);
        }
        self.restart().await;
    }

    /// Starts the process again, on the same port and folder.
    pub async fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            self.spawn();
            if self.wait_until_ready().await {
                return;
            }
            // Until the last child of the killed process has noticed, its memory is in use.
            assert!(Instant::now() < deadline, "the server did not restart:\n{}", self.log());
            sleep(POLL).await;
        }
    }

    /// The folder in which the server keeps its data.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("postgres.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn spawn(&mut self) {
        let mut command = command("postgres", self.user);
        command.arg("-D").arg(self.dir.path().join("data")).arg("-p").arg(self.port.to_string());
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=16MB"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        self.process = Some(Process::start(&mut command, &self.log_path()));
    }

    /// Returns whether the process answers: not if it has ended.
    async fn wait_until_ready(&mut self) -> bool {
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if self.process.as_mut().is_none_or(|process| process.ended().is_some()) {
                return false;
            }
            if let Ok(connection) = PgConnection::connect(&self.url()).await {
                let _ = connection.close().await;
                return true;
            }
            sleep(POLL).await;
        }
        panic!("the server is not ready after {START_DEADLINE:?}:\n{}", self.log());
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take()
            && process.ended().is_none()
        {
            // An immediate shutdown: its children go with it, and its memory.
            process.end("-QUIT");
        }
    }
}

/// The user who runs the server in root's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// `None` where we are not root, as the owner of our folder shows.
    pub(crate) fn other_than_root(ours: &Path) -> Option<Self> {
        if fs::metadata(ours).expect("our folder").uid() != 0 {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("the users");
        let user = |name: &str| {
            let mut fields = passwd.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
            Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
        };
        Some(user("postgres").or_else(|| user("nobody")).expect("a user other than root"))
    }

    /// Has the command run by this user.
    pub(crate) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid).current_dir("/");
    }

    pub(crate) fn own(self, path: &Path) {
        run(Command::new("chown").arg("-R").arg(format!("{}:{}", self.uid, self.gid)).arg(path));
    }
}

fn command(name: &str, user: Option<User>) -> Command {
    let mut command = Command::new(binary(name));
    if let Some(user) = user {
        user.run(&mut command);
    }
    command
}

/// The path of the binary; its bare name if it was found nowhere.
fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("POSTGRES_BIN") {
        return Path::new(&folder).join(name);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|binary| binary.exists());
    on_path.or_else(|| debians(name)).unwrap_or_else(|| name.into())
}

/// Debian keeps the binaries off the path, in a folder for each release.
fn debians(name: &str) -> Option<PathBuf> {
    let releases = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let binary = |release: &fs::DirEntry| release.path().join("bin").join(name);
    let installed = releases.filter(|release| binary(release).exists());
    let number = |release: &fs::DirEntry| release.file_name().to_string_lossy().parse::<u32>().unwrap_or_default();
    installed.max_by_key(number).map(|release| binary(&release))
}

/// `initdb` takes a second: its work is kept beside the test binaries.
fn copy_template(to: &Path, user: Option<User>) {
    let version = Command::new(binary("initdb")).arg("--version").output();
    let version = version.unwrap_or_else(|error| panic!("initdb cannot be run: {error}")).stdout;
    let version: String = String::from_utf8_lossy(&version).chars().filter(char::is_ascii_alphanumeric).collect();
    let binaries = std::env::current_exe().expect("our own path");
    let template = binaries.parent().expect("its folder").join(format!("{version}-template"));
    if !template.exists() {
        make_template(&template, user);
    }
    run(Command::new("cp").arg("-R").arg(&template).arg(to));
}

fn make_template(template: &Path, user: Option<User>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    if let Some(user) = user {
        user.own(dir.path());
    }
    let data = dir.path().join("data");
    let mut initdb = command("initdb", user);
    initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    run(initdb.arg("--wal-segsize=1").arg("-D").arg(&data));
    let parts = tempfile::tempdir_in(template.parent().expect("a folder")).expect("a temporary folder");
    let copy = parts.path().join("data");
    run(Command::new("cp").arg("-R").arg(&data).arg(&copy));
    // Where another process was faster, its template is as good.
    if let Err(error) = fs::rename(&copy, template) {
        assert!(template.exists(), "the template cannot be kept: {error}");
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}
