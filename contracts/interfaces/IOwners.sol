// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title The part of a Safe's interface that BlockOTA calls
interface IOwners {
    /// @notice Checks whether an account is an owner of the Safe.
    /// @param account The account to check.
    /// @return answer True if the account is an owner.
    function isOwner(address account) external view returns (bool answer);
}
