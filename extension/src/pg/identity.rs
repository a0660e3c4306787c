//! Running something with the rights of another role.

use pgrx::pg_sys;

/// Runs `work` as `role`, in the state in which index expressions of that role's tables run.
///
/// After an error the transaction's abort restores the role, so nothing has to be undone on that path.
pub(crate) fn run_as<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: both write to the two places given, which live until the end of this function.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let restricted =
            (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION) as i32;
        pg_sys::SetUserIdAndSecContext(role, context | restricted);
    }
    let result = work();
    // SAFETY: gives back what was read above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    result
}
