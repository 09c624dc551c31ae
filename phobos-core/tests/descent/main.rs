//! Descent, against repositories of the Borg that is installed: what damages a source is refused before a copy is touched,
//! and what Borg does by itself is not.

#[cfg(test)]
mod damage;
#[cfg(test)]
mod honest;
#[cfg(test)]
mod place;
