// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {IUpdateLedger} from "../../contracts/interfaces/IUpdateLedger.sol";
import {ForgeTest} from "./Forge.sol";
import {ReferenceTree} from "./ReferenceTree.sol";
import {UpdateLedgerHandler} from "./UpdateLedgerHandler.sol";

/// @title The numbered invariants of UpdateLedger, checked after random calls of the handler
contract UpdateLedgerInvariants is ForgeTest {
    UpdateLedgerHandler private _handler;
    IUpdateLedger private _ledger;

    function setUp() external {
        _handler = new UpdateLedgerHandler();
        _ledger = _handler.ledger();
    }

    /// @notice Restricts Foundry to calls of the handler.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// @notice A fixed sequence of actions, so that coverage does not depend on the seed.
    function test_theInvariantsHoldAlongAWalk() external {
        for (uint256 i = 0; i < 300; ++i) {
            _step(_mix(i, "action"), _mix(i, "who"), _mix(i, "seed"), _mix(i, "damage"));
            if (i % 50 != 0) continue;
            this.invariant_L1_onlyActiveKeepersAnchor();
            this.invariant_L2_everyAnchorContinuesTheLog();
            this.invariant_L4_aDeviceIsRecordedOnceByTheGatewayOfItsBlock();
            this.invariant_L6_onlyEvidenceSuspends();
            this.invariant_L9_aLogBelongsToAnIdentity();
        }
    }

    function invariant_L1_onlyActiveKeepersAnchor() external {
        for (uint256 who = 0; who < _handler.PEOPLE(); ++who) {
            if (_handler.mayAnchor(who)) continue;
            address account = _handler.accountOf(who);
            vm.prank(account);
            (bool done, bytes memory answer) = address(_ledger).call(
                abi.encodeCall(_ledger.anchor, (type(uint64).max, "root", new bytes32[](0)))
            );
            require(!done && bytes4(answer) == IUpdateLedger.NotALogKeeper.selector, "L1");
        }
    }

    /// @notice All anchored roots are roots of prefixes of one log, with ascending sizes.
    function invariant_L2_everyAnchorContinuesTheLog() external view {
        for (uint256 who = 0; who < _handler.PEOPLE(); ++who) {
            bytes32[] memory leaves = _handler.leaves(who);
            uint64 last = 0;
            for (uint256 i = 0; i < _handler.anchors(who); ++i) {
                uint64 size = _handler.sizes(who, i);
                require(size > last, "L2: size");
                require(_handler.roots(who, i) == ReferenceTree.root(leaves, 0, size), "L2: root");
                last = size;
            }
        }
    }

    function invariant_L4_aDeviceIsRecordedOnceByTheGatewayOfItsBlock() external view {
        for (uint64 version = 1; version <= 2; ++version) {
            bytes32 release = keccak256(abi.encode(1, address(0xB10C), bytes32("acme-thermo2"), version));
            for (uint64 word = 0; word < 6; ++word) {
                uint256 bits = _handler.bitsOf(release, word);
                require(bits == 0 || (word > 0 && word < 5), "L4: block");
                for (uint64 bit = uint64(block.timestamp % 61); bit < 256; bit += 61) {
                    require(_ledger.installed(release, 256 * word + bit) == ((bits >> bit) & 1 == 1), "L4");
                }
            }
        }
    }

    /// @notice A suspicion on record is one of the log's own entries.
    function invariant_L6_onlyEvidenceSuspends() external view {
        for (uint256 who = 0; who < _handler.PEOPLE(); ++who) {
            IUpdateLedger.Log memory log = _ledger.root(_handler.uuidOf(who));
            if (log.number == 0) {
                require(log.state < IUpdateLedger.State.Suspended && log.release == 0, "L6: no suspicion");
            } else {
                require(_handler.hasEvidence(who, log.number, log.release), "L6: no evidence");
            }
        }
    }

    /// @notice The record of each identity is the model's: a suspended or retired log does not grow, and rotations, bans
    /// and retirements of identities change no log.
    function invariant_L9_aLogBelongsToAnIdentity() external view {
        for (uint256 who = 0; who < _handler.PEOPLE(); ++who) {
            bytes memory stored = abi.encode(_ledger.root(_handler.uuidOf(who)));
            require(keccak256(stored) == keccak256(abi.encode(_handler.expected(who))), "L9");
        }
    }

    function _step(uint256 action, uint256 who, uint256 seed, uint256 damage) private {
        action %= 16;
        if (action < 5) _handler.anchor(who, seed, damage);
        else if (action < 8) _handler.anchorInstalls(who, seed, damage, _mix(seed, "which"));
        else if (action == 8) _handler.suspect(who, seed, damage, _mix(seed, "damage"));
        else if (action == 9) _handler.suspectRightly(who, seed);
        else if (action < 12) _handler.decide(who, seed, damage % 4 != 0);
        else if (action == 12) _handler.rotate(who);
        else if (action == 13) _handler.ban(who, seed);
        else if (action == 14) _handler.retire(who, seed);
        else _handler.failDevices(seed);
        _handler.warp(damage);
    }
}
