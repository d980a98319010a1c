// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IDeviceRegistry} from "./interfaces/IDeviceRegistry.sol";
import {IIdentityRegistry} from "./interfaces/IIdentityRegistry.sol";
import {IUpdateOrders} from "./interfaces/IUpdateOrders.sol";
import {Texts} from "./Texts.sol";

/// @title Orders of operators: which devices get which release, and when
/// @notice See `IUpdateOrders`, which is the specification.
/// @dev Storage: slot 0 number of orders, 1 groups by id, 2 orders by group and product.
contract UpdateOrders is IUpdateOrders {
    /// @dev The newest order of a group for a product, in two words.
    struct Record {
        uint64 id;
        uint64 version;
        bytes16 operator;
        uint40 notBefore;
        uint40 deadline;
        uint40 placedAt;
        bool cancelled;
    }

    /// @inheritdoc IUpdateOrders
    address public immutable identities;

    /// @inheritdoc IUpdateOrders
    address public immutable devices;

    /// @inheritdoc IUpdateOrders
    uint64 public orderCount;

    mapping(bytes32 id => Group) private _groups;
    mapping(bytes32 key => Record) private _orders;

    /// @param identityRegistry Address of IdentityRegistry.
    /// @param deviceRegistry Address of DeviceRegistry.
    constructor(address identityRegistry, address deviceRegistry) {
        require(identityRegistry.code.length != 0, RegistryMissing(identityRegistry));
        require(deviceRegistry.code.length != 0, RegistryMissing(deviceRegistry));
        identities = identityRegistry;
        devices = deviceRegistry;
    }

    /// @inheritdoc IUpdateOrders
    function defineGroup(bytes32 id, GroupKind kind, bytes32 value) external {
        bytes16 operator = _requireOperator();
        require(Texts.isName(id), GroupNameInvalid(id));
        Group storage target = _groups[id];
        require(target.kind == GroupKind.None, GroupDefinedAlready(id, target.kind, target.value));
        bool valid = value != 0 && (kind == GroupKind.Site ? value << 128 == 0 : kind != GroupKind.None);
        require(valid, InvalidGroup(id, kind, value));

        target.kind = kind;
        target.operator = operator;
        target.definedAt = uint40(block.timestamp);
        target.value = value;

        emit GroupDefined(id, kind, value, operator);
    }

    /// @inheritdoc IUpdateOrders
    function order(
        bytes32 groupId,
        uint64 chain,
        address blockOta,
        bytes32 product,
        uint64 version,
        uint40 notBefore,
        uint40 deadline
    ) external returns (uint64 id) {
        bytes16 operator = _requireOperator();
        require(version != 0, VersionMissing());
        require(deadline > block.timestamp, DeadlineInPast(deadline, block.timestamp));
        require(notBefore < deadline, WindowEmpty(notBefore, deadline));
        _requireAllowed(groupId, chain, blockOta, product);
        Record storage record = _orders[_keyOf(groupId, chain, blockOta, product)];
        bool free = _statusOf(record) != Status.Open;
        require(free, OrderStillOpen(record.id, record.version, record.operator, record.deadline));

        id = ++orderCount;
        record.id = id;
        record.version = version;
        record.operator = operator;
        record.notBefore = notBefore;
        record.deadline = deadline;
        record.placedAt = uint40(block.timestamp);
        record.cancelled = false;

        emit OrderPlaced(id, groupId, operator, chain, blockOta, product, version, notBefore, deadline);
    }

    /// @inheritdoc IUpdateOrders
    function cancel(bytes32 groupId, uint64 chain, address blockOta, bytes32 product, uint64 id) external {
        Record storage record = _orders[_keyOf(groupId, chain, blockOta, product)];
        require(record.id == id, OrderDiffers(id, record.id));
        Status status = _statusOf(record);
        require(status == Status.Open, WrongOrderStatus(id, status));
        (bytes16 by, IIdentityRegistry.Kind kind, bool active) = IIdentityRegistry(identities).standing(msg.sender);
        bool allowed = active && (by == record.operator || kind == IIdentityRegistry.Kind.Administrator);
        require(allowed, CancellingNotAllowed(id, msg.sender));

        record.cancelled = true;

        emit OrderCancelled(id, groupId, by);
    }

    /// @inheritdoc IUpdateOrders
    function group(bytes32 id) external view returns (Group memory record) {
        return _groups[id];
    }

    /// @inheritdoc IUpdateOrders
    function current(
        bytes32 groupId,
        uint64 chain,
        address blockOta,
        bytes32 product
    ) external view returns (Order memory record) {
        Record storage stored = _orders[_keyOf(groupId, chain, blockOta, product)];
        record.id = stored.id;
        record.version = stored.version;
        record.operator = stored.operator;
        record.notBefore = stored.notBefore;
        record.deadline = stored.deadline;
        record.placedAt = stored.placedAt;
        record.status = _statusOf(stored);
    }

    function _requireOperator() private view returns (bytes16 uuid) {
        IIdentityRegistry.Kind kind;
        bool active;
        (uuid, kind, active) = IIdentityRegistry(identities).standing(msg.sender);
        require(active && kind == IIdentityRegistry.Kind.Operator, NotAnOperator(msg.sender, kind, active));
    }

    /// @dev Requires that the group is defined and, if it is a model, that its Spec lists the product.
    function _requireAllowed(bytes32 groupId, uint64 chain, address blockOta, bytes32 product) private view {
        Group storage target = _groups[groupId];
        require(target.kind != GroupKind.None, GroupUnknown(groupId));
        bool allowed = target.kind != GroupKind.Model ||
            IDeviceRegistry(devices).allows(target.value, chain, blockOta, product);
        require(allowed, ProductNotAllowed(groupId, chain, blockOta, product));
    }

    function _statusOf(Record storage record) private view returns (Status) {
        if (record.id == 0) return Status.None;
        if (record.cancelled) return Status.Cancelled;
        if (record.deadline <= block.timestamp) return Status.Expired;
        return _isVoid(record) ? Status.Void : Status.Open;
    }

    /// @dev True if the Operator was banned at the time of the order or later. A ban that was lifted counts too.
    function _isVoid(Record storage record) private view returns (bool) {
        return IIdentityRegistry(identities).bannedAt(record.operator) >= record.placedAt;
    }

    function _keyOf(bytes32 groupId, uint64 chain, address blockOta, bytes32 product) private pure returns (bytes32) {
        return keccak256(abi.encode(groupId, chain, blockOta, product));
    }
}
