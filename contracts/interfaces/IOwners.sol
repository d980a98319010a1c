// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title What BlockOTA asks a Safe
interface IOwners {
    /// @notice Whether an account is one of the Safe's owners.
    /// @param account The account in question.
    /// @return answer True when it is.
    function isOwner(address account) external view returns (bool answer);
}
