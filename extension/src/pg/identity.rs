//! Running something with the rights of another role.

use pgrx::pg_sys;

/// Runs `work` as `role`, as a function of that role's runs with SECURITY DEFINER and `SET search_path = pg_catalog, pg_temp`:
/// nothing that the session's user has put into its own path may run with the role's rights.
///
/// After an error the transaction's abort restores the path, too.
pub(crate) fn run_as_definer<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    // SAFETY: what fmgr.c does for a function with SET; both texts are static, and the level is closed below.
    let level = unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        level
    };
    let result = switched(role, pg_sys::SECURITY_LOCAL_USERID_CHANGE, work);
    // SAFETY: as above.
    unsafe { pg_sys::AtEOXact_GUC(true, level) };
    result
}

/// Runs `work` as `role`, in the state in which index expressions of that role's tables run.
pub(crate) fn run_as<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
    switched(role, restricted, work)
}

/// After an error the transaction's abort restores the role, so nothing has to be undone on that path.
fn switched<T>(role: pg_sys::Oid, added: u32, work: impl FnOnce() -> T) -> T {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: both write to the two places given, which live until the end of this function.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | added as i32);
    }
    let result = work();
    // SAFETY: gives back what was read above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    result
}
