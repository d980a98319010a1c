// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title The producers whose releases a consortium's gateways follow
/// @notice The owner (the consortium's Safe) admits a producer with its contracts BlockOTA and FirmwareReplication on
/// this chain. A gateway follows every producer that is admitted and not suspended.
/// @dev Names are 1 to 31 visible ASCII characters, left-aligned, zero-padded. A producer is never removed, and keeps
/// its name and contracts. Times are Unix seconds. Getters do not revert for unknown keys: they return an empty record
/// (name 0) or an empty list.
interface IProducers {
    /// @notice A producer as returned by the getters.
    /// @param name Name of the producer; 0 if it does not exist.
    /// @param blockOta Address of the producer's BlockOTA.
    /// @param replication Address of the producer's FirmwareReplication; 0 if it has none.
    /// @param suspended True while the owner suspends the producer.
    /// @param since Time of the admission.
    struct Producer {
        bytes32 name;
        address blockOta;
        address replication;
        bool suspended;
        uint40 since;
    }

    /// @notice A producer was admitted.
    event ProducerAdmitted(bytes32 indexed name, address indexed blockOta, address replication);

    /// @notice A producer was suspended.
    event ProducerSuspended(bytes32 indexed name);

    /// @notice The suspension of a producer ended.
    event ProducerRestored(bytes32 indexed name);

    /// @notice The name is empty, longer than 31 characters, or has characters that are not visible ASCII.
    error ProducerNameInvalid(bytes32 name);

    /// @notice A producer has this name.
    error ProducerKnown(bytes32 name, address blockOta);

    /// @notice No producer has this name.
    error ProducerUnknown(bytes32 name);

    /// @notice The address has no code.
    error ContractMissing(address account);

    /// @notice The BlockOTA belongs to a producer.
    error BlockOtaTaken(address blockOta, bytes32 name);

    /// @notice The contract is not a FirmwareReplication of this BlockOTA; `served` is 0 if it names none.
    error ReplicationOfAnother(address replication, address served, address blockOta);

    /// @notice The producer is suspended already.
    error ProducerSuspendedAlready(bytes32 name);

    /// @notice The producer is not suspended.
    error ProducerNotSuspended(bytes32 name);

    /// @notice Renouncing the ownership is refused, because the contract must have an owner.
    error RenouncingRefused();

    /// @notice Admits a producer.
    /// @param name Name of the producer.
    /// @param blockOta Address of its BlockOTA.
    /// @param replication Address of its FirmwareReplication, or 0.
    /// @dev Emits `ProducerAdmitted`. Only the owner may call it. Reverts with `ProducerNameInvalid`, `ProducerKnown`,
    /// `ContractMissing`, `BlockOtaTaken` or `ReplicationOfAnother`.
    function admit(bytes32 name, address blockOta, address replication) external;

    /// @notice Suspends a producer. Gateways offer nothing of it until it is restored.
    /// @param name Name of the producer.
    /// @dev Emits `ProducerSuspended`. Only the owner may call it. Reverts with `ProducerUnknown` or
    /// `ProducerSuspendedAlready`.
    function suspend(bytes32 name) external;

    /// @notice Ends the suspension of a producer.
    /// @param name Name of the producer.
    /// @dev Emits `ProducerRestored`. Only the owner may call it. Reverts with `ProducerUnknown` or
    /// `ProducerNotSuspended`.
    function restore(bytes32 name) external;

    /// @notice Returns one producer.
    /// @param name Name of the producer.
    /// @return record The producer, or an empty record if it does not exist.
    function producer(bytes32 name) external view returns (Producer memory record);

    /// @notice Returns the producer to which a BlockOTA belongs.
    /// @param blockOta Address of BlockOTA.
    /// @return record The producer, or an empty record if there is none.
    function producerOf(address blockOta) external view returns (Producer memory record);

    /// @notice Returns a page of all producers in the order of their admission.
    /// @param from Number of producers to skip.
    /// @param count Maximum number of records.
    /// @return records The page; shorter than `count` at the end of the list.
    function producers(uint256 from, uint256 count) external view returns (Producer[] memory records);

    /// @notice Number of producers ever admitted.
    /// @return count Number of producers.
    function producerCount() external view returns (uint256 count);
}
