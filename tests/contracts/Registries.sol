// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";

/// @title A registry of identities and devices that tests set as they need it
/// @notice It answers the views of IdentityRegistry and DeviceRegistry that UpdateLedger and UpdateOrders call.
contract Registries {
    /// @notice An identity: its newest account, its kind, and what ends its rights.
    struct Identity {
        address account;
        IIdentityRegistry.Kind kind;
        bool banned;
        bool retired;
        uint40 bannedAt;
    }

    mapping(bytes16 uuid => Identity) private _identities;
    mapping(address account => bytes16 uuid) private _uuidOf;
    mapping(uint256 word => bytes16 site) private _siteOf;
    mapping(bytes32 triple => bool) private _allowed;

    /// @notice Whether every call about devices reverts.
    bool public devicesFail;

    /// @notice Enrols an identity, or gives it a new account; the old account stays its own.
    function setAccount(bytes16 uuid, IIdentityRegistry.Kind kind, address account) external {
        (_identities[uuid].kind, _identities[uuid].account) = (kind, account);
        _uuidOf[account] = uuid;
    }

    /// @notice Bans an identity now, or lifts the ban; the time of the ban stays.
    function setBanned(bytes16 uuid, bool banned) external {
        _identities[uuid].banned = banned;
        if (banned) _identities[uuid].bannedAt = uint40(block.timestamp);
    }

    function retire(bytes16 uuid) external {
        _identities[uuid].retired = true;
    }

    function giveBlock(bytes16 site, uint256 word) external {
        _siteOf[word] = site;
    }

    function setAllowed(bytes32 specHash, uint64 chain, address blockOta, bytes32 product, bool allowed) external {
        _allowed[keccak256(abi.encode(specHash, chain, blockOta, product))] = allowed;
    }

    function setDevicesFail(bool fail) external {
        devicesFail = fail;
    }

    function standing(
        address account
    ) external view returns (bytes16 uuid, IIdentityRegistry.Kind kind, bool active) {
        uuid = _uuidOf[account];
        Identity storage identity = _identities[uuid];
        kind = identity.kind;
        active = uuid != 0 && identity.account == account && !identity.banned && !identity.retired;
    }

    function bannedAt(bytes16 uuid) external view returns (uint40) {
        return _identities[uuid].bannedAt;
    }

    function ownsBlocks(bytes16 site, uint256[] calldata words) external view returns (bool owned) {
        require(!devicesFail, "devices fail");
        owned = true;
        for (uint256 i = 0; i < words.length; ++i) owned = owned && _siteOf[words[i]] == site;
    }

    function allows(bytes32 specHash, uint64 chain, address blockOta, bytes32 product) external view returns (bool) {
        require(!devicesFail, "devices fail");
        return _allowed[keccak256(abi.encode(specHash, chain, blockOta, product))];
    }
}
