// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {IUpdateOrders} from "../../contracts/interfaces/IUpdateOrders.sol";
import {HalmosCheck} from "./Halmos.sol";

/// @title Properties of UpdateOrders that every call preserves, proven by Halmos
/// @notice As in CheckBlockOTA: every sender, function and argument, from every storage that satisfies the check's
/// assumptions, at any time. This contract is both registries, and gives any answers.
contract CheckUpdateOrders is HalmosCheck {
    /// @dev Masks of the second word of an order: its times, and above them whether it is cancelled.
    uint256 private constant TIMES = (1 << 120) - 1;

    IUpdateOrders private _orders;
    bytes16 private _uuid;
    IIdentityRegistry.Kind private _kind;
    bool private _active;
    bool private _allows;
    uint40 private _bannedAt;

    function setUp() external {
        bytes memory arguments = abi.encode(address(this), address(this));
        _orders = IUpdateOrders(_deployWith(".build/forge/halmos/UpdateOrders.sol/UpdateOrders.json", arguments));
        _fillWithAnything(address(_orders));
        uint256 answer = uint256(svm.createBytes32("answer"));
        vm.assume(uint8(answer >> 128) < 8);
        _uuid = bytes16(uint128(answer));
        _kind = IIdentityRegistry.Kind(uint8(answer >> 128));
        (_active, _allows) = ((answer >> 136) & 1 == 1, (answer >> 137) & 1 == 1);
        _bannedAt = uint40(answer >> 144);
        vm.warp(uint40(answer >> 184));
    }

    /// @notice The function of IdentityRegistry: any answer, the same for every account.
    function standing(address) external view returns (bytes16, IIdentityRegistry.Kind, bool) {
        return (_uuid, _kind, _active);
    }

    /// @notice The function of IdentityRegistry: any answer, the same for every identity.
    function bannedAt(bytes16) external view returns (uint40) {
        return _bannedAt;
    }

    /// @notice The function of DeviceRegistry: any answer.
    function allows(bytes32, uint64, address, bytes32) external view returns (bool) {
        return _allows;
    }

    function check_O1_onlyAnActiveOperatorOrders(address sender, bytes32 id) external {
        vm.assume(!_both(_active, _kind == IIdentityRegistry.Kind.Operator));
        (uint64 count, bytes32 group) = (_orders.orderCount(), _groupOf(id));
        vm.assume(_callOrders(sender));
        assert(_both(_orders.orderCount() == count, _groupOf(id) == group));
    }

    function check_O2_aGroupNeverChanges(address sender, bytes32 id) external {
        vm.assume(_orders.group(id).kind != IUpdateOrders.GroupKind.None);
        bytes32 group = _groupOf(id);
        vm.assume(_callOrders(sender));
        assert(_groupOf(id) == group);
    }

    function check_O3_anOpenOrderStaysOrIsCancelled(address sender, bytes32 key) external {
        (bytes32 first, bytes32 second) = _record(key);
        vm.assume(_both(_isOpen(first, second), _orders.orderCount() < type(uint64).max));
        vm.assume(_callOrders(sender));
        (bytes32 laterFirst, bytes32 laterSecond) = _record(key);
        bool sameTimes = uint256(second ^ laterSecond) & TIMES == 0;
        assert(_both(first == laterFirst, sameTimes));
    }

    function check_O4_idsOnlyGrowByOne(address sender, bytes32 key) external {
        uint64 count = _orders.orderCount();
        vm.assume(count < type(uint64).max);
        (bytes32 first, ) = _record(key);
        vm.assume(_callOrders(sender));
        uint64 later = _orders.orderCount();
        assert(_either(later == count, later == count + 1));
        (bytes32 laterFirst, ) = _record(key);
        assert(_either(laterFirst == first, uint64(uint256(laterFirst)) == count + 1));
    }

    function check_O7_onlyItsOperatorOrAnAdministratorCancels(address sender, bytes32 key) external {
        (bytes32 first, bytes32 second) = _record(key);
        bool own = _both(_active, bytes16(uint128(uint256(first) >> 128)) == _uuid);
        bool administrator = _both(_active, _kind == IIdentityRegistry.Kind.Administrator);
        vm.assume(_both(_isOpen(first, second), !_either(own, administrator)));
        vm.assume(_callOrders(sender));
        (, bytes32 laterSecond) = _record(key);
        assert(second == laterSecond);
    }

    function check_O8_aVoidOrderIsNotCancelled(address sender, bytes32 key) external {
        (bytes32 first, bytes32 second) = _record(key);
        (uint64 id, uint64 count) = (uint64(uint256(first)), _orders.orderCount());
        vm.assume(_both(_both(id != 0, id <= count), count < type(uint64).max));
        vm.assume(_bannedAt >= uint40(uint256(second) >> 80));
        vm.assume(_callOrders(sender));
        (bytes32 laterFirst, bytes32 laterSecond) = _record(key);
        // The order is replaced, or both of its words stay.
        assert(_either(first != laterFirst, second == laterSecond));
    }

    /// @dev Must fail: proves that the assumptions allow an order to be placed where another one is over.
    /// @custom:halmos --early-exit
    function check_reachable_anOrderIsReplaced(address sender, bytes32 key) external {
        (bytes32 first, ) = _record(key);
        vm.assume(_both(uint64(uint256(first)) != 0, _orders.orderCount() < type(uint64).max));
        vm.assume(_callOrders(sender));
        (bytes32 laterFirst, ) = _record(key);
        assert(first == laterFirst);
    }

    /// @dev Must fail: proves that the assumption of O7 allows an open order to be cancelled by an Administrator.
    /// @custom:halmos --early-exit
    function check_reachable_anOpenOrderIsCancelled(address sender, bytes32 key) external {
        (bytes32 first, bytes32 second) = _record(key);
        vm.assume(_both(_isOpen(first, second), _kind == IIdentityRegistry.Kind.Administrator));
        vm.assume(_callOrders(sender));
        (, bytes32 laterSecond) = _record(key);
        assert(second == laterSecond);
    }

    /// @dev Makes any writing call as any sender; returns whether it succeeded.
    function _callOrders(address sender) private returns (bool done) {
        bytes memory data = svm.createCalldata("UpdateOrders");
        vm.prank(sender);
        (done, ) = address(_orders).call(data);
    }

    function _isOpen(bytes32 first, bytes32 second) private view returns (bool) {
        bool known = _both(uint64(uint256(first)) != 0, uint256(second) >> 120 == 0);
        bool unbanned = _bannedAt < uint40(uint256(second) >> 80);
        return _both(_both(known, unbanned), uint40(uint256(second) >> 40) > block.timestamp);
    }

    /// @dev Returns a hash of all storage words of a group (docs/contracts.md).
    function _groupOf(bytes32 id) private view returns (bytes32) {
        return keccak256(abi.encode(_word(id, 1, 0), _word(id, 1, 1)));
    }

    /// @dev Returns the two storage words of an order (docs/contracts.md).
    function _record(bytes32 key) private view returns (bytes32 first, bytes32 second) {
        return (_word(key, 2, 0), _word(key, 2, 1));
    }

    function _word(bytes32 key, uint256 slot, uint256 place) private view returns (bytes32) {
        return vm.load(address(_orders), bytes32(uint256(keccak256(abi.encode(key, slot))) + place));
    }
}
