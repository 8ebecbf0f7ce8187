//! Telling sets from sequences.

use std::any::type_name;

/// The kind of set that `I` is, by the last name of its path: `HashSet` for `&std::collections::HashSet<u8>`.
///
/// serde has no notion of a set: it writes one as a sequence, in whatever order the set is iterated. The type behind
/// `collect_seq`, which every set passes to it, is the only trace. The name is compared and never stored, so all that
/// a compiler with other type names could do is to let equal sets look different.
pub(crate) fn set_name<I: ?Sized>() -> Option<&'static str> {
    let name = type_name::<I>().trim_start_matches('&');
    let path = name.split_once('<').map_or(name, |(path, _)| path);
    let set = ["HashSet", "BTreeSet", "IndexSet"].into_iter().find(|set| path.ends_with(set))?;
    let modules = path.strip_suffix(set)?.strip_suffix("::")?;
    // The text before a `<` is a path only if no bracket opens in it: `[(u8, HashSet<u8>)]` is no set.
    (!modules.contains(['[', '(', '{', ' '])).then_some(set)
}
