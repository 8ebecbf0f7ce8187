//! The names of the annotated functions of this process: a default name belongs to one function.

use std::{
    any::TypeId,
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    engine::events,
    error::{Error, NameConflict, OperationError},
    lock::lock,
};

/// One annotated function: a static beside its body.
pub struct Function {
    name: &'static str,
    is_default: bool,
    /// The identifier of a type inside the function: every instance of a generic function has it, and so has what is
    /// loaded again at run time, also from a file in which the function has moved.
    id: fn() -> TypeId,
    file: &'static str,
    line: u32,
    /// The [`ROUND`] in which its name was found to be its own.
    checked: AtomicU32,
}

/// Raised when the names are forgotten.
static ROUND: AtomicU32 = AtomicU32::new(1);

static OWNERS: LazyLock<Mutex<HashMap<String, Owners>>> = LazyLock::new(Mutex::default);

/// The functions that have a name. Owns its texts: a library that is loaded at run time may be unloaded.
struct Owners {
    ids: Vec<TypeId>,
    is_default: bool,
    /// The place of the first function.
    place: String,
}

impl Function {
    /// A function with a name written out, or with the default one.
    #[must_use]
    pub const fn new(name: &'static str, is_default: bool, id: fn() -> TypeId, file: &'static str, line: u32) -> Self {
        Self { name, is_default, id, file, line, checked: AtomicU32::new(0) }
    }

    /// Checks that no other function has its default name. A name that is written out twice is its author's word, and is
    /// told once.
    ///
    /// `inside` is the compiler's name of something inside the function. It has type arguments where the function is one of
    /// a generic `impl` or of a trait: each type has such a function, and all of them have one default name.
    pub(crate) fn check(&self, inside: &str) -> Result<(), Error> {
        let round = ROUND.load(Ordering::Relaxed);
        if self.checked.load(Ordering::Relaxed) == round {
            return Ok(());
        }
        if self.is_default && inside.contains('<') {
            return Err(OperationError::DefaultName(self.to_string().into()).into());
        }
        self.register()?;
        self.checked.store(round, Ordering::Relaxed);
        Ok(())
    }

    #[cold]
    fn register(&self) -> Result<(), Error> {
        let (id, place) = ((self.id)(), self.to_string());
        let mut owners = lock(&OWNERS);
        let owners = match owners.entry(self.name.to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Owners { ids: vec![id], is_default: self.is_default, place });
                return Ok(());
            }
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if owners.ids.contains(&id) {
            return Ok(());
        }
        if self.is_default || owners.is_default {
            let conflict = NameConflict::new(self.name, &owners.place, &place);
            return Err(OperationError::NameTaken(conflict).into());
        }
        if owners.ids.len() == 1 {
            events::shared_name(self.name, &owners.place, &place);
        }
        owners.ids.push(id);
        Ok(())
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Forgets which function has which name.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn forget() {
    let mut owners = lock(&OWNERS);
    owners.clear();
    // Under the lock, so that no function is noted for the old round after this.
    ROUND.fetch_add(1, Ordering::Relaxed);
}
