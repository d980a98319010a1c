// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Identities (the views that UpdateLedger and UpdateOrders need; the whole interface follows)
interface IIdentityRegistry {
    enum Kind {
        None,
        Validator,
        Gateway,
        Administrator,
        Fog,
        Cloud,
        Operator,
        Technician
    }

    function standing(address account) external view returns (bytes16 uuid, Kind kind, bool active);

    function kindOf(bytes16 uuid) external view returns (Kind kind, bool active);

    function bannedAt(bytes16 uuid) external view returns (uint40 time);
}
