//! The cost of building 100 annotated functions, above that of 100 plain ones: CPU time of the compiler and linker, and bytes of
//! the program. Ours against `cached`, with the library that comes with the first function, and without.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use crate::support::{Bar, medians, row};

const FUNCTIONS: usize = 100;

/// The way in which the functions of a package are annotated.
#[derive(Clone, Copy)]
struct Annotated {
    package: &'static str,
    /// Before the function with this number.
    attribute: fn(usize) -> String,
    dependency: &'static str,
    error: &'static str,
}

const PLAIN: Annotated =
    Annotated { package: "plain", attribute: |_| String::new(), dependency: "", error: "pub struct Error;" };

const OURS: Annotated = Annotated {
    package: "ours",
    attribute: |_| "#[idempotent_runtime::idempotent(key = order_id)]".to_owned(),
    dependency: concat!(
        "idempotent-runtime = { path = \"",
        env!("CARGO_MANIFEST_DIR"),
        "/../../idempotent-runtime\" }"
    ),
    error: "use idempotent_runtime::Error;",
};

const CACHED: Annotated = Annotated {
    package: "cached_ones",
    attribute: |_| {
        "#[cached::macros::cached(ttl_secs = 86_400, key = \"String\", convert = { order_id.to_owned() })]".to_owned()
    },
    dependency: "cached = { version = \"4.1\", features = [\"async\"] }",
    error: "#[derive(Clone)] pub struct Error;",
};

pub(crate) fn a_hundred_functions() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |annotated: Annotated, functions| Package::write(folder.path(), annotated, functions);
    let packages = [PLAIN, OURS, CACHED].map(|annotated| [1, FUNCTIONS].map(|functions| write(annotated, functions)));
    for profile in ["dev", "release"] {
        let [[plain_1, plain], [ours_1, ours], [cached_1, cached]] = &packages;
        let cpu = medians(
            5,
            [
                &mut || plain_1.milliseconds(profile),
                &mut || plain.milliseconds(profile),
                &mut || ours_1.milliseconds(profile),
                &mut || ours.milliseconds(profile),
                &mut || cached_1.milliseconds(profile),
                &mut || cached.milliseconds(profile),
            ],
        );
        let bytes = [plain_1, plain, ours_1, ours, cached_1, cached].map(|package| package.bytes(profile));
        for (what, unit, [plain_1, plain, ours_1, ours, cached_1, cached]) in
            [("CPU", "ms", cpu), ("bytes", "B", bytes)]
        {
            let what = format!("build of {FUNCTIONS} functions, {profile}, {what} above plain ones");
            let alone = |hundred: f64, one: f64| hundred - one - (plain - plain_1);
            row(&what, unit, alone(ours, ours_1), "cached", alone(cached, cached_1), Bar::AtMost(1.0));
            row(&format!("{what}, with the library"), unit, ours - plain, "cached", cached - plain, Bar::None);
        }
    }
}

/// A package with annotated functions, and a `main` that calls each of them.
struct Package {
    folder: PathBuf,
    name: String,
}

impl Package {
    fn write(parent: &Path, annotated: Annotated, functions: usize) -> Self {
        let Annotated { package, attribute, dependency, error } = annotated;
        let package = format!("{package}_{functions}");
        let folder = parent.join(&package);
        fs::create_dir_all(folder.join("src")).expect("a folder");
        let manifest = format!(
            "[workspace]\n[package]\nname = \"{package}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [dependencies]\n{dependency}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\
             tokio = {{ version = \"1\", features = [\"rt\"] }}\n[profile.dev]\nstrip = true\n[profile.release]\nstrip = true\n"
        );
        fs::write(folder.join("Cargo.toml"), manifest).expect("a manifest");
        // The versions of this run.
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
        fs::copy(lock, folder.join("Cargo.lock")).expect("a lock file");
        fs::write(folder.join("src/main.rs"), source(attribute, error, functions)).expect("a source file");
        Self { folder, name: package }
    }

    fn build(&self, profile: &str) {
        let built = Command::new("cargo")
            .args(["build", "--quiet", "--ignore-rust-version", "--profile", profile])
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_TARGET_DIR", self.target())
            .current_dir(&self.folder)
            .stdout(Stdio::null())
            .status()
            .expect("cargo");
        assert!(built.success(), "{} does not build", self.name);
    }

    /// Milliseconds of CPU time, user and system, to build the package once more. The first round builds its dependencies.
    fn milliseconds(&self, profile: &str) -> f64 {
        let source = fs::File::options().append(true).open(self.folder.join("src/main.rs")).expect("the source");
        source.set_modified(SystemTime::now()).expect("a time");
        let before = cpu_of_children();
        self.build(profile);
        (cpu_of_children() - before) * 1e3
    }

    fn bytes(&self, profile: &str) -> f64 {
        let folder = if profile == "dev" { "debug" } else { profile };
        fs::metadata(self.target().join(folder).join(&self.name)).expect("the program").len() as f64
    }

    /// One folder for all packages: they share most dependencies.
    fn target(&self) -> PathBuf {
        self.folder.with_file_name("target")
    }
}

fn source(attribute: fn(usize) -> String, error: &str, functions: usize) -> String {
    let mut text = format!(
        "#[derive(Clone, serde::Serialize, serde::Deserialize)]\npub struct Receipt {{ charge: String, cents: u64 }}\n{error}\n"
    );
    for number in 0..functions {
        write!(
            text,
            "{}\npub async fn charge_{number}(order_id: String, amount_cents: u64) -> Result<Receipt, Error> {{\n    \
             let charge = format!(\"ch-{number}-{{order_id}}\");\n    \
             Ok(Receipt {{ charge, cents: amount_cents + {number} }})\n}}\n",
            attribute(number)
        )
        .expect("text");
    }
    text.push_str("async fn all(order_id: &str) -> u64 {\n    let mut cents = 0;\n");
    for number in 0..functions {
        writeln!(
            text,
            "    cents += charge_{number}(order_id.to_owned(), 17).await.map_or(0, |receipt| receipt.cents + receipt.charge.len() as u64);"
        )
        .expect("text");
    }
    text.push_str(
        "    cents\n}\nfn main() {\n    let order_id = std::env::args().next().unwrap_or_default();\n    \
         let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();\n    \
         println!(\"{}\", runtime.block_on(all(&order_id)));\n}\n",
    );
    text
}

/// Seconds of CPU time of all children that have ended, with theirs.
fn cpu_of_children() -> f64 {
    let fields = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = fields.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
