//! The program, as a process.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
};

use tempfile::NamedTempFile;

/// The process, and what it says.
pub(crate) struct Server {
    child: Child,
    arguments: Vec<String>,
    /// `http://…`
    pub(crate) url: String,
    /// The commands that it prints.
    pub(crate) greeting: String,
    log: NamedTempFile,
}

impl Server {
    /// On a free port.
    pub(crate) fn start(store: &str, arguments: &[&str]) -> Self {
        let arguments: Vec<_> =
            ["--store", store].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let log = NamedTempFile::new().unwrap();
        let (child, url, greeting) = spawn(&arguments, "127.0.0.1:0", &log);
        Self { child, arguments, url, greeting, log }
    }

    /// Kills it, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, where clients look for it.
    pub(crate) fn restart(&mut self) {
        let address = self.url.strip_prefix("http://").unwrap();
        (self.child, ..) = spawn(&self.arguments, address, &self.log);
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let kill = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
        self.child.wait().unwrap()
    }

    /// How often it, and those before it, have said this.
    pub(crate) fn said(&self, what: &str) -> usize {
        self.log().matches(what).count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(arguments: &[String], listen: &str, log: &NamedTempFile) -> (Child, String, String) {
    let stderr = File::options().append(true).open(log.path()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_charges"));
    command.args(arguments).args(["--listen", listen]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (mut first, mut rest) = (String::new(), String::new());
    stdout.read_line(&mut first).unwrap();
    let Some(url) = first.trim().strip_prefix("listening on ") else {
        let log = fs::read_to_string(log.path()).unwrap();
        panic!("the server did not start: {first}{log}");
    };
    // To the end of the greeting: it prints nothing else.
    while stdout.read_line(&mut rest).unwrap() > 0 && !rest.contains("another account") {}
    (child, url.to_owned(), rest)
}
