// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IIdentityRegistry} from "./IIdentityRegistry.sol";

/// @title Orders of operators: which devices get which release, and when
/// @notice An Operator defines groups of devices, and orders that the devices of a group get a release within a time
/// window. Gateways read the orders and offer the release. The contract cannot read the chain with the release: each
/// gateway verifies the release, and whether it may update the device, before it offers it.
/// @dev For one group and one product of one BlockOTA on one chain, at most one order is open. Expiry is not stored: an
/// order that is not cancelled is expired from its deadline on. The order of an Operator is void from the time at which
/// the Operator is banned, for ever. An order that is cancelled, expired or void is replaced by the next order; the
/// event of every order remains. Ids are assigned in sequence from 1; 0 means "none". Times are Unix seconds and
/// versions are packed semver, as in `IBlockOTA`. Getters do not revert for unknown keys: they return an empty record.
interface IUpdateOrders {
    /// @notice How a group names its devices: those of a model (a Spec of `IDeviceRegistry`), those of a site (a
    /// gateway), or those on a list. The members are those at the block of an order.
    enum GroupKind {
        None,
        Model,
        Site,
        List
    }

    /// @notice Status of an order.
    enum Status {
        None,
        Open,
        Cancelled,
        Expired,
        Void
    }

    /// @notice A group as returned by `group`.
    /// @param kind How the group names its devices.
    /// @param operator UUID of the Operator that defined the group.
    /// @param definedAt Time of the definition.
    /// @param value Model: Keccak-256 of the Spec's name. Site: UUID of the gateway, left aligned. List: root of the
    /// Merkle tree (RFC 6962) of the device numbers, each as 8 bytes, in ascending order.
    struct Group {
        GroupKind kind;
        bytes16 operator;
        uint40 definedAt;
        bytes32 value;
    }

    /// @notice An order as returned by `current`.
    /// @param id Number of the order; 0 if there is none.
    /// @param version Packed semver of the release.
    /// @param operator UUID of the Operator.
    /// @param notBefore Time before which gateways do not offer the release.
    /// @param deadline Time from which gateways do not offer the release.
    /// @param placedAt Time of the order.
    /// @param status Status at the time of the block.
    struct Order {
        uint64 id;
        uint64 version;
        bytes16 operator;
        uint40 notBefore;
        uint40 deadline;
        uint40 placedAt;
        Status status;
    }

    /// @notice An Operator defined a group.
    event GroupDefined(bytes32 indexed id, GroupKind indexed kind, bytes32 indexed value, bytes16 operator);

    /// @notice An Operator ordered a release for a group.
    event OrderPlaced(
        uint64 indexed id,
        bytes32 indexed group,
        bytes16 indexed operator,
        uint64 chain,
        address blockOta,
        bytes32 product,
        uint64 version,
        uint40 notBefore,
        uint40 deadline
    );

    /// @notice The Operator of an order, or an Administrator, cancelled it.
    event OrderCancelled(uint64 indexed id, bytes32 indexed group, bytes16 indexed by);

    /// @notice The address given for a registry has no code.
    error RegistryMissing(address account);

    /// @notice The caller is not an active Operator.
    error NotAnOperator(address caller, IIdentityRegistry.Kind kind, bool active);

    /// @notice The caller is neither the active Operator of the order nor an active Administrator.
    error CancellingNotAllowed(uint64 id, address caller);

    /// @notice The id of the group is not a name of 1 to 31 visible ASCII characters.
    error GroupNameInvalid(bytes32 group);

    /// @notice The group is defined already; a group never changes.
    error GroupDefinedAlready(bytes32 group, GroupKind groupKind, bytes32 value);

    /// @notice The kind is none, the value is empty, or the value of a site is not a UUID.
    error InvalidGroup(bytes32 group, GroupKind groupKind, bytes32 value);

    /// @notice The group is not defined.
    error GroupUnknown(bytes32 group);

    /// @notice The Spec of the model does not list this product of this BlockOTA.
    error ProductNotAllowed(bytes32 group, uint64 chain, address blockOta, bytes32 product);

    /// @notice The version is 0.0.0, which is not a release.
    error VersionMissing();

    /// @notice The deadline is not later than the time of the block.
    error DeadlineInPast(uint40 deadline, uint256 blockTime);

    /// @notice The window does not begin before the deadline.
    error WindowEmpty(uint40 notBefore, uint40 deadline);

    /// @notice The group already has an open order for this product.
    error OrderStillOpen(uint64 id, uint64 version, bytes16 operator, uint40 deadline);

    /// @notice The current order of the group for this product is not the one that the call names.
    error OrderDiffers(uint64 id, uint64 current);

    /// @notice The status of the order does not allow the call.
    error WrongOrderStatus(uint64 id, Status orderStatus);

    /// @notice Defines a group of devices. A group never changes.
    /// @param id Id of the group: a name of 1 to 31 visible ASCII characters.
    /// @param kind How the group names its devices.
    /// @param value The model, the site or the root of the list, see `Group`.
    /// @dev Emits `GroupDefined`. Only an active Operator may call it. Reverts with `NotAnOperator`, `GroupNameInvalid`,
    /// `GroupDefinedAlready` or `InvalidGroup`.
    function defineGroup(bytes32 id, GroupKind kind, bytes32 value) external;

    /// @notice Orders a release for the devices of a group.
    /// @param groupId Id of the group.
    /// @param chain Id of the chain with the release.
    /// @param blockOta Address of the BlockOTA with the release.
    /// @param product Name of the product.
    /// @param version Packed semver of the release.
    /// @param notBefore Time before which gateways do not offer the release; 0 for at once.
    /// @param deadline Time from which gateways do not offer the release.
    /// @return id Number of the order.
    /// @dev Emits `OrderPlaced`. Only an active Operator may call it. For a group by model, the model's Spec must list
    /// the product. Reverts with `NotAnOperator`, `VersionMissing`, `DeadlineInPast`, `WindowEmpty`, `GroupUnknown`,
    /// `ProductNotAllowed` or `OrderStillOpen`.
    function order(
        bytes32 groupId,
        uint64 chain,
        address blockOta,
        bytes32 product,
        uint64 version,
        uint40 notBefore,
        uint40 deadline
    ) external returns (uint64 id);

    /// @notice Cancels an open order.
    /// @param groupId Id of the group.
    /// @param chain Id of the chain with the release.
    /// @param blockOta Address of the BlockOTA with the release.
    /// @param product Name of the product.
    /// @param id Number of the order.
    /// @dev Emits `OrderCancelled`. Only the active Operator of the order and active Administrators may call it. Reverts
    /// with `OrderDiffers`, `WrongOrderStatus` or `CancellingNotAllowed`.
    function cancel(bytes32 groupId, uint64 chain, address blockOta, bytes32 product, uint64 id) external;

    /// @notice The registry of identities.
    /// @return account Address of IdentityRegistry. It never changes.
    function identities() external view returns (address account);

    /// @notice The registry of devices.
    /// @return account Address of DeviceRegistry. It never changes.
    function devices() external view returns (address account);

    /// @notice Number of orders ever placed. Equals the greatest id.
    /// @return count Number of orders.
    function orderCount() external view returns (uint64 count);

    /// @notice Returns a group.
    /// @param id Id of the group.
    /// @return record The group, or an empty record if it is not defined.
    function group(bytes32 id) external view returns (Group memory record);

    /// @notice Returns the newest order for a group and a product.
    /// @param groupId Id of the group.
    /// @param chain Id of the chain with the release.
    /// @param blockOta Address of the BlockOTA with the release.
    /// @param product Name of the product.
    /// @return record The order, or an empty record if there is none.
    function current(
        bytes32 groupId,
        uint64 chain,
        address blockOta,
        bytes32 product
    ) external view returns (Order memory record);
}
