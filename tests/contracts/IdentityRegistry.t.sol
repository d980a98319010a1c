// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {ForgeTest} from "./Forge.sol";
import {IdentityRegistryHandler} from "./IdentityRegistryHandler.sol";

/// @title The numbered invariants of IdentityRegistry, checked after random calls of the handler
/// @dev Fewer runs than of other contracts, because the walk below is long and each invariant reads all identities.
/// forge-config: default.invariant.runs = 3
contract IdentityRegistryInvariants is ForgeTest {
    IdentityRegistryHandler private _handler;
    IIdentityRegistry private _registry;

    function setUp() external {
        _handler = new IdentityRegistryHandler();
        _registry = _handler.registry();
    }

    /// @notice Restricts Foundry to calls of the handler.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @notice A fixed sequence of actions, so that coverage does not depend on the seed.
    function test_theInvariantsHoldAlongAWalk() external {
        for (uint256 i = 0; i < 400; ++i) {
            _step(_mix(i, "action"), _mix(i, "who"), _mix(i, "which"), _mix(i, "seed"));
            if (i % 25 != 0) continue;
            this.invariant_I1_anIdentityIsAsItWasEnrolled();
            this.invariant_I2_accountsAndKeysStayWithTheirIdentity();
            this.invariant_I5_onlyTheOwnerDecides();
            this.invariant_I6_onlyTheOwnerAndActiveAdministratorsBan();
            this.invariant_I7_aRetiredIdentityNeverChanges();
            this.invariant_I8_generationsStayReadable();
            this.invariant_I9_theStandingOfAnAccountIsThatOfItsIdentity();
            this.invariant_I10_pagesTogetherAreEveryIdentity();
        }
    }

    /// @notice With its newest keys, the times of its bans, and its retirement.
    function invariant_I1_anIdentityIsAsItWasEnrolled() external view {
        for (uint256 i = 0; i < _handler.UUIDS(); ++i) {
            bytes16 uuid = _handler.uuidOf(i);
            require(_same(_registry.identity(uuid), _handler.identity(uuid)), "I1");
            require(_registry.bannedAt(uuid) == _handler.identity(uuid).bannedAt, "I1: ban");
        }
    }

    function invariant_I2_accountsAndKeysStayWithTheirIdentity() external view {
        for (uint256 i = 0; i < 10; ++i) {
            address account = _handler.accountOf(i);
            require(_registry.identityOf(account).uuid == _handler.accountHolder(account), "I2: account");
            bytes32[3] memory words = [
                keccak256(abi.encode(i)),
                keccak256(abi.encode(10 + i)),
                keccak256(abi.encode(20 + i))
            ];
            for (uint256 use = 0; use < 3; ++use) {
                bytes32 keyHash = keccak256(abi.encode(words[use]));
                require(_registry.identityByKey(keyHash).uuid == _handler.keyHolder(keyHash), "I2: key");
            }
        }
    }

    function invariant_I5_onlyTheOwnerDecides() external {
        (address target, bytes16 uuid) = (address(_registry), _handler.uuidOf(1));
        for (uint256 i = 1; i < _handler.ACCOUNTS(); ++i) {
            address account = _handler.accountOf(i);
            bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, account);
            IIdentityRegistry.Enrolment memory item;
            _expect(account, target, abi.encodeCall(_registry.enrol, (item)), refusal);
            _expect(account, target, abi.encodeCall(_registry.unban, (uuid)), refusal);
            _expect(account, target, abi.encodeCall(_registry.retire, (uuid)), refusal);
        }
    }

    function invariant_I6_onlyTheOwnerAndActiveAdministratorsBan() external {
        uint256 target = 1;
        for (; target < _handler.UUIDS() - 1; ++target) {
            (, bool active) = _registry.kindOf(_handler.uuidOf(target));
            if (active) break;
        }
        bytes memory call = abi.encodeCall(_registry.ban, (_handler.uuidOf(target), "x"));
        (, bool found) = _registry.kindOf(_handler.uuidOf(target));
        for (uint256 i = 0; i < _handler.ACCOUNTS() && found; ++i) {
            address account = _handler.accountOf(i);
            (, IIdentityRegistry.Kind kind, bool active) = _registry.standing(account);
            if (active && kind == IIdentityRegistry.Kind.Administrator) continue; // I9 compares it with the model
            bytes memory refusal = abi.encodeWithSelector(IIdentityRegistry.BanningNotAllowed.selector, account);
            _expect(account, address(_registry), call, refusal);
        }
    }

    function invariant_I7_aRetiredIdentityNeverChanges() external {
        address target = address(_registry);
        for (uint256 i = 0; i < _handler.UUIDS(); ++i) {
            bytes16 uuid = _handler.uuidOf(i);
            IIdentityRegistry.Identity memory one = _handler.identity(uuid);
            if (!one.retired) continue;
            bytes memory refusal = abi.encodeWithSelector(IIdentityRegistry.IdentityIsRetired.selector, uuid);
            _expect(_handler.owner(), target, abi.encodeCall(_registry.ban, (uuid, "x")), refusal);
            _expect(_handler.owner(), target, abi.encodeCall(_registry.unban, (uuid)), refusal);
            bytes memory call = abi.encodeCall(_registry.rotate, (uuid, one.account, one.keyKind, one.key, 0, 0));
            _expect(_handler.owner(), target, call, refusal);
        }
    }

    function invariant_I8_generationsStayReadable() external view {
        for (uint256 i = 0; i < _handler.UUIDS(); ++i) {
            bytes16 uuid = _handler.uuidOf(i);
            bytes memory stored = abi.encode(_registry.generations(uuid));
            require(keccak256(stored) == keccak256(abi.encode(_handler.generations(uuid))), "I8");
        }
    }

    function invariant_I9_theStandingOfAnAccountIsThatOfItsIdentity() external view {
        for (uint256 i = 0; i < _handler.ACCOUNTS(); ++i) {
            address account = _handler.accountOf(i);
            bytes16 holder = _handler.accountHolder(account);
            (bytes16 uuid, IIdentityRegistry.Kind kind, bool active) = _registry.standing(account);
            require(uuid == holder && kind == _handler.identity(holder).kind, "I9: who");
            require(active == _handler.isActive(account), "I9: active");
        }
        for (uint256 i = 0; i < _handler.UUIDS(); ++i) {
            IIdentityRegistry.Identity memory one = _handler.identity(_handler.uuidOf(i));
            (IIdentityRegistry.Kind kind, bool active) = _registry.kindOf(_handler.uuidOf(i));
            bool wanted = one.uuid != 0 && !one.banned && !one.retired;
            require(kind == one.kind && active == wanted, "I9: kind");
        }
    }

    function invariant_I10_pagesTogetherAreEveryIdentity() external view {
        uint256 left = _handler.enrolledCount();
        require(_registry.identityCount() == left, "I10: number");
        require(_registry.identities(0, left + 1).length == left, "I10: all");
        bytes16 from = 0;
        while (left != 0) {
            IIdentityRegistry.Identity[] memory page = _registry.identities(from, 2);
            require(page.length == (left < 2 ? left : 2), "I10: page");
            for (uint256 i = 0; i < page.length; ++i) require(page[i].uuid == _handler.enrolled(--left), "I10: order");
            from = page[page.length - 1].previous;
        }
        require(from == 0, "I10: end");
    }

    function _step(uint256 action, uint256 who, uint256 which, uint256 seed) private {
        action %= 12;
        if (action < 3) _handler.enrol(who, which, seed, seed >> 64);
        else if (action == 3) _handler.enrolAll(which, seed, seed >> 64);
        else if (action < 6) _handler.rotate(who, which, seed);
        else if (action < 8) _handler.ban(who, which, bytes32(seed));
        else if (action < 10) _handler.unban(who, which);
        else if (action == 10) _handler.retire(who, which);
        else _handler.handOver(seed);
        _handler.warp(seed);
    }

    function _same(
        IIdentityRegistry.Identity memory one,
        IIdentityRegistry.Identity memory two
    ) private pure returns (bool) {
        return keccak256(abi.encode(one)) == keccak256(abi.encode(two));
    }
}
