//! Telling sets from sequences.

use std::any::type_name;

/// The name of `I`'s type without path, references and parameters: `HashSet` for `&std::collections::HashSet<u8>`.
///
/// serde has no notion of a set: it writes one as a sequence, in whatever order the set is iterated. The type behind
/// `collect_seq`, which every set passes to it, is the only trace. The name is compared and never stored, so all that
/// a compiler with other type names could do is to let equal sets look different.
pub(crate) fn collection_name<I: ?Sized>() -> &'static str {
    let name = type_name::<I>();
    let path = name.split_once('<').map_or(name, |(path, _)| path);
    path.rsplit([':', '&']).next().unwrap_or(path)
}

/// Whether the order of the elements of `I` means nothing.
pub(super) fn is_set<I: ?Sized>() -> bool {
    matches!(collection_name::<I>(), "HashSet" | "BTreeSet" | "IndexSet")
}
