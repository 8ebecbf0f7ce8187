//! Certificates made by the command `openssl`, in a temporary folder: an authority, a server, a client, and an authority
//! that signed neither.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness that cannot do its work fails the test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::postgres_server::User;

/// The folder, and whose files are in it.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificates {
    /// Makes all of them. The server's is for 127.0.0.1, the client's for the user `secure`.
    ///
    /// # Panics
    ///
    /// Where `openssl` cannot make them.
    #[must_use]
    pub fn new() -> Self {
        let certificates = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        for authority in ["ca", "other"] {
            certificates.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={authority} \
                 -addext basicConstraints=critical,CA:TRUE -keyout {authority}.key -out {authority}.pem"
            ));
        }
        for (name, subject, usage) in [
            ("server", "localhost", "subjectAltName=IP:127.0.0.1"),
            ("client", "secure", "extendedKeyUsage=clientAuth"),
        ] {
            fs::write(certificates.file("extensions"), usage).expect("a file");
            certificates.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={subject} -keyout {name}.key \
                 -out {name}.csr"
            ));
            certificates.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
                 -out {name}.pem"
            ));
        }
        certificates
    }

    /// The path of `ca.pem`, `other.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives the path as text.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Reads a file.
    #[must_use]
    pub fn pem(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).expect("a file")
    }

    /// Another file in the folder.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("a file");
    }

    /// Gives the folder to the user that PostgreSQL runs as, which wants to own its key.
    pub fn give_to_postgres(&self) {
        if let Some(user) = User::other_than_root(self.dir.path()) {
            user.own(self.dir.path());
        }
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split_ascii_whitespace()).current_dir(Path::new(self.dir.path())).output();
        let output = output.unwrap_or_else(|error| panic!("openssl cannot be run: {error}"));
        assert!(output.status.success(), "openssl {arguments}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
