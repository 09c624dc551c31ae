//! What can be tested without the rig: real mount namespaces, loop-mounted ext4, borg and rsync, as root on any Linux.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod endurance;
#[cfg(test)]
mod ext;
#[cfg(test)]
mod guard;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod miniature;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod ns;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod pull;
