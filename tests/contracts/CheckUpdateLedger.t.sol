// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {IUpdateLedger} from "../../contracts/interfaces/IUpdateLedger.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title Properties of UpdateLedger that every call preserves, proven by Halmos
/// @notice As in CheckBlockOTA: every sender, function and argument, from every storage that satisfies the check's
/// assumptions. This contract is both registries, and gives any answers. Logs have fewer than 16 entries and proofs one
/// hash; longer proofs are fuzzed (MerkleLog.t.sol). Halmos 0.3.3 stops with an error at SHA-256, so the
/// bytecode calls a contract that returns the Keccak-256 hash instead.
contract CheckUpdateLedger is HalmosCheck {
    uint64 private constant MOST_ENTRIES = 16;
    /// @dev Copies the calldata into memory, and returns its Keccak-256 hash.
    bytes private constant HASHER_CODE = hex"3660006000373660002060005260206000f3";

    IUpdateLedger private _ledger;
    bytes16 private _uuid;
    IIdentityRegistry.Kind private _kind;
    bool private _active;
    bool private _owns;

    function setUp() external {
        bytes memory arguments = abi.encode(address(this), address(this));
        string memory path = ".build/forge/halmos/UpdateLedger.sol/UpdateLedger.json";
        bytes memory code = abi.encodePacked(vm.getCode(path), arguments);
        assert(_replaceSha256(code) == 2);
        vm.etch(address(0x77), HASHER_CODE);
        _ledger = IUpdateLedger(_create(code));
        _fillWithAnything(address(_ledger));
        uint256 answer = uint256(svm.createBytes32("answer"));
        vm.assume(uint8(answer >> 128) < 8);
        _uuid = bytes16(uint128(answer));
        _kind = IIdentityRegistry.Kind(uint8(answer >> 128));
        (_active, _owns) = ((answer >> 136) & 1 == 1, (answer >> 137) & 1 == 1);
    }

    /// @notice The function of IdentityRegistry: any answer, the same for every account.
    function standing(address) external view returns (bytes16, IIdentityRegistry.Kind, bool) {
        return (_uuid, _kind, _active);
    }

    /// @notice The function of DeviceRegistry: any answer.
    function ownsBlocks(bytes16, uint256[] calldata) external view returns (bool) {
        return _owns;
    }

    function check_L1_onlyAnActiveKeeperAnchorsItsLog(address sender, bytes16 uuid) external {
        vm.assume(!_isItsKeeper(uuid));
        (bytes32 root, uint256 sizeAndTime) = _anchorOf(uuid);
        vm.assume(_callLedger(sender));
        (bytes32 laterRoot, uint256 laterSizeAndTime) = _anchorOf(uuid);
        assert(_both(root == laterRoot, sizeAndTime == laterSizeAndTime));
    }

    function check_L2_theSizeOnlyRises(address sender, bytes16 uuid) external {
        (bytes32 root, uint256 sizeAndTime) = _anchorOf(uuid);
        vm.assume(_callLedger(sender));
        (bytes32 laterRoot, uint256 laterSizeAndTime) = _anchorOf(uuid);
        bool same = _both(root == laterRoot, sizeAndTime == laterSizeAndTime);
        assert(_either(same, uint64(laterSizeAndTime) > uint64(sizeAndTime)));
    }

    function check_L4_aRecordedDeviceStaysRecorded(address sender, bytes32 release, uint64 number) external {
        vm.assume(_ledger.installed(release, number));
        vm.assume(_callLedger(sender));
        assert(_ledger.installed(release, number));
    }

    function check_L4_onlyTheGatewayOfTheBlockRecords(address sender, bytes32 release, uint64 number) external {
        vm.assume(!_ledger.installed(release, number));
        vm.assume(!_both(_owns, _isItsKeeper(_uuid)));
        vm.assume(_callLedger(sender));
        assert(!_ledger.installed(release, number));
    }

    function check_L6_aSuspicionNamesARegisteredDevice(address sender, bytes16 uuid) external {
        vm.assume(_stateOf(uuid) != IUpdateLedger.State.Suspended);
        vm.assume(_callLedger(sender));
        vm.assume(_stateOf(uuid) == IUpdateLedger.State.Suspended);
        assert(_ledger.root(uuid).number != 0);
    }

    function check_L7_theStateFollowsTheArrows(address sender, bytes16 uuid) external {
        uint256 before = uint256(_stateOf(uuid));
        vm.assume(_callLedger(sender));
        uint256 later = uint256(_stateOf(uuid));
        bool begins = _both(before == 0, later == 1);
        bool suspended = _both(before == 1, later == 2);
        bool administrator = _both(_active, _kind == IIdentityRegistry.Kind.Administrator);
        bool decided = _both(_both(before == 2, administrator), _either(later == 1, later == 3));
        assert(_either(_either(before == later, begins), _either(suspended, decided)));
    }

    function check_L7_aSuspendedOrRetiredLogDoesNotGrow(address sender, bytes16 uuid) external {
        vm.assume(uint256(_stateOf(uuid)) >= 2);
        (bytes32 root, uint256 sizeAndTime) = _anchorOf(uuid);
        vm.assume(_callLedger(sender));
        (bytes32 laterRoot, uint256 laterSizeAndTime) = _anchorOf(uuid);
        assert(_both(root == laterRoot, sizeAndTime == laterSizeAndTime));
    }

    function check_L8_whatIsDecidedStaysDecided(address sender, bytes32 suspicion) external {
        bytes32 slot = keccak256(abi.encode(suspicion, 2));
        uint64 before = uint64(uint256(vm.load(address(_ledger), slot)));
        vm.assume(_callLedger(sender));
        assert(uint64(uint256(vm.load(address(_ledger), slot))) >= before);
    }

    /// @dev Must fail: proves that the assumptions allow a log to grow by a proof.
    /// @custom:halmos --early-exit
    function check_reachable_aLogGrows(address sender, bytes16 uuid) external {
        vm.assume(_ledger.root(uuid).size == 2);
        vm.assume(_callLedger(sender));
        assert(_ledger.root(uuid).size == 2);
    }

    /// @dev Must fail: proves that the assumptions allow a log to be suspended.
    /// @custom:halmos --early-exit
    function check_reachable_aLogIsSuspended(address sender, bytes16 uuid) external {
        vm.assume(_stateOf(uuid) == IUpdateLedger.State.Growing);
        vm.assume(_callLedger(sender));
        assert(_stateOf(uuid) != IUpdateLedger.State.Suspended);
    }

    /// @dev Must fail: proves that the assumptions allow a device to be recorded.
    /// @custom:halmos --early-exit
    function check_reachable_aDeviceIsRecorded(address sender, bytes32 release, uint64 number) external {
        vm.assume(!_ledger.installed(release, number));
        vm.assume(_callLedger(sender));
        assert(!_ledger.installed(release, number));
    }

    /// @dev Makes any writing call as any sender; returns whether it succeeded. The sizes are limited, because each
    /// level of a tree is a path of its own.
    function _callLedger(address sender) private returns (bool done) {
        bytes memory data = svm.createCalldata("UpdateLedger");
        bytes4 selector = bytes4(data);
        if (selector == IUpdateLedger.suspect.selector) {
            vm.assume(_ledger.root(bytes16(_argument(data, 0))).size < MOST_ENTRIES);
        } else if (selector != IUpdateLedger.decide.selector) {
            vm.assume(uint256(_argument(data, 0)) < MOST_ENTRIES);
        }
        vm.prank(sender);
        (done, ) = address(_ledger).call(data);
    }

    /// @dev Replaces the address 2 in each call of the precompiled contract: PUSH1 2, GAS, STATICCALL.
    function _replaceSha256(bytes memory code) private pure returns (uint256 count) {
        assembly {
            let end := add(code, mload(code))
            for {
                let place := add(code, 0x20)
            } lt(place, end) {
                place := add(place, 1)
            } {
                if eq(shr(224, mload(place)), 0x60025afa) {
                    mstore8(add(place, 1), 0x77)
                    count := add(count, 1)
                }
            }
        }
    }

    function _isItsKeeper(bytes16 uuid) private view returns (bool) {
        bool site = _either(_kind == IIdentityRegistry.Kind.Gateway, _kind == IIdentityRegistry.Kind.Validator);
        bool other = _either(_kind == IIdentityRegistry.Kind.Technician, _kind == IIdentityRegistry.Kind.Cloud);
        return _both(_both(_active, uuid == _uuid), _either(site, other));
    }

    function _stateOf(bytes16 uuid) private view returns (IUpdateLedger.State) {
        return IUpdateLedger.State(uint8(uint256(_word(uuid, 1)) >> 104) & 3);
    }

    /// @dev Returns the root of a log, and its size and time in one word.
    function _anchorOf(bytes16 uuid) private view returns (bytes32 root, uint256 sizeAndTime) {
        return (_word(uuid, 0), uint104(uint256(_word(uuid, 1))));
    }

    /// @dev Returns a storage word of a log (docs/contracts.md).
    function _word(bytes16 uuid, uint256 place) private view returns (bytes32) {
        return vm.load(address(_ledger), bytes32(uint256(keccak256(abi.encode(uuid, 0))) + place));
    }
}
