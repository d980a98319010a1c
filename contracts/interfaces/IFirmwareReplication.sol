// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Agreements between the vendor and brokers that serve copies of its releases
/// @notice A broker proposes to serve a release until a given time. The vendor accepts or declines. The broker of an
/// accepted agreement announces the URL of its replica. Replicas are not trusted: clients verify the bytes against
/// `IBlockOTA`.
/// @dev The vendor is the current owner of BlockOTA (its Safe). A broker is any account that proposes. Expiry is not
/// stored: an agreement is expired from `expiresAt` on, in any status. An expired agreement serves nothing and can be
/// neither accepted nor announced. A release that is revoked in BlockOTA has no replicas. Ids are assigned in sequence
/// from 1; 0 means "none". A reorganisation can give an id to another proposal. A call that acts on an agreement
/// therefore also names terms of the agreement, and reverts if the record differs. Versions are packed semver and times
/// are Unix seconds, as in `IBlockOTA`. Getters do not revert for unknown keys: they return an empty record (status
/// `None`, id 0) or an empty list.
interface IFirmwareReplication {
    /// @notice Status of an agreement. Proposed becomes Accepted, Declined or Withdrawn; Accepted becomes Withdrawn or
    /// Terminated. Declined, Withdrawn and Terminated are final.
    enum Status {
        None,
        Proposed,
        Accepted,
        Declined,
        Withdrawn,
        Terminated
    }

    /// @notice An agreement as returned by the getters.
    /// @param id Number of the agreement; 0 if it does not exist.
    /// @param broker Account that proposed the agreement and serves the replica.
    /// @param expiresAt Time from which the agreement is expired.
    /// @param status Status, independent of expiry.
    /// @param product Name of the product.
    /// @param version Packed semver of the release.
    /// @param uri URL of the replica; empty until announced, and kept after the agreement ends.
    struct Agreement {
        uint64 id;
        address broker;
        uint40 expiresAt;
        Status status;
        bytes32 product;
        uint64 version;
        string uri;
    }

    /// @notice The terms by which the vendor names an agreement.
    /// @param id Number of the agreement.
    /// @param broker Broker of the agreement.
    /// @param product Product of the release.
    /// @param version Packed semver of the release.
    /// @param expiresAt Expiry of the agreement.
    struct Terms {
        uint64 id;
        address broker;
        bytes32 product;
        uint64 version;
        uint40 expiresAt;
    }

    /// @notice A broker proposed to serve a release.
    event AgreementProposed(
        uint64 indexed id,
        bytes32 indexed product,
        address indexed broker,
        uint64 version,
        uint40 expiresAt
    );

    /// @notice The vendor accepted a proposal.
    event AgreementAccepted(uint64 indexed id, bytes32 indexed product, address indexed broker, uint64 version);

    /// @notice The vendor declined a proposal.
    event AgreementDeclined(uint64 indexed id, bytes32 indexed product, address indexed broker, uint64 version);

    /// @notice A broker announced the URL of its replica, for the first time or because it changed.
    event ReplicaAnnounced(
        uint64 indexed id,
        bytes32 indexed product,
        address indexed broker,
        uint64 version,
        string uri
    );

    /// @notice A broker ended its proposal or agreement, or replaced an expired one by a new proposal.
    event AgreementWithdrawn(uint64 indexed id, bytes32 indexed product, address indexed broker, uint64 version);

    /// @notice The vendor ended an agreement.
    event AgreementTerminated(uint64 indexed id, bytes32 indexed product, address indexed broker, uint64 version);

    /// @notice The address given for BlockOTA has no code.
    error NotAContract(address account);

    /// @notice The caller is not the vendor (the owner of BlockOTA).
    error NotTheVendor(address caller, address vendor);

    /// @notice The caller is not the broker of the agreement.
    error NotTheBroker(uint64 id, address caller, address broker);

    /// @notice The list of agreements to accept is empty.
    error NothingToAccept();

    /// @notice The agreement does not exist.
    error AgreementUnknown(uint64 id);

    /// @notice The agreement is not the one that the call describes. The values are those on record.
    error AgreementDiffers(uint64 id, address broker, bytes32 product, uint64 version, uint40 expiresAt);

    /// @notice The status of the agreement does not allow the call.
    error WrongAgreementStatus(uint64 id, Status status);

    /// @notice The agreement has expired.
    error AgreementExpired(uint64 id, uint40 expiresAt);

    /// @notice The broker already has a proposal or agreement for this release that has not expired.
    error AgreementStillOpen(uint64 id, uint40 expiresAt);

    /// @notice The expiry is not later than the time of the block.
    error ExpiryInPast(uint40 expiresAt, uint256 blockTime);

    /// @notice The release does not exist in BlockOTA.
    error ReleaseUnknown(bytes32 product, uint64 version);

    /// @notice The vendor has revoked the release, so it must not be served.
    error ReleaseRevokedAlready(bytes32 product, uint64 version);

    /// @notice The URI is empty or longer than `limit` bytes.
    error InvalidUriLength(uint256 length, uint256 limit);

    /// @notice Proposes to serve a release. Any account may propose.
    /// @param product Name of the product.
    /// @param version Packed semver of a release that is not revoked. It need not be active yet.
    /// @param expiresAt Time from which the agreement is expired.
    /// @return id Number of the new agreement.
    /// @dev Emits `AgreementProposed`, preceded by `AgreementWithdrawn` if the broker's earlier agreement is expired.
    /// Reverts with `ExpiryInPast`, `ReleaseUnknown`, `ReleaseRevokedAlready` or `AgreementStillOpen`.
    function propose(bytes32 product, uint64 version, uint40 expiresAt) external returns (uint64 id);

    /// @notice Accepts a proposal.
    /// @param id Number of the agreement.
    /// @param broker Broker of the agreement.
    /// @param product Product of the release.
    /// @param version Packed semver of the release.
    /// @param expiresAt Expiry of the agreement.
    /// @dev Emits `AgreementAccepted`. Only the vendor may call it. Reverts with `AgreementUnknown`, `NotTheVendor`,
    /// `AgreementDiffers`, `WrongAgreementStatus`, `AgreementExpired` or `ReleaseRevokedAlready`.
    function accept(uint64 id, address broker, bytes32 product, uint64 version, uint40 expiresAt) external;

    /// @notice Accepts proposals: all of them, or none.
    /// @param terms Terms of the agreements, at least one.
    /// @dev Emits `AgreementAccepted` for each. Only the vendor may call it. Reverts with `NothingToAccept`, or as
    /// `accept` does for the first proposal that cannot be accepted.
    function acceptAll(Terms[] calldata terms) external;

    /// @notice Declines a proposal.
    /// @param id Number of the agreement.
    /// @param broker Broker of the agreement.
    /// @param product Product of the release.
    /// @param version Packed semver of the release.
    /// @param expiresAt Expiry of the agreement.
    /// @dev Emits `AgreementDeclined`. Only the vendor may call it. Reverts with `AgreementUnknown`, `NotTheVendor`,
    /// `AgreementDiffers` or `WrongAgreementStatus`.
    function decline(uint64 id, address broker, bytes32 product, uint64 version, uint40 expiresAt) external;

    /// @notice Announces the URL of the replica of an accepted agreement, for the first time or because it changed.
    /// @param id Number of the agreement.
    /// @param product Product of the release.
    /// @param version Packed semver of the release.
    /// @param uri URL of the replica, 1 to 256 bytes. The contract does not interpret it; clients must validate it.
    /// @dev Emits `ReplicaAnnounced`. Only the broker may call it. Reverts with `AgreementUnknown`, `NotTheBroker`,
    /// `AgreementDiffers`, `WrongAgreementStatus`, `AgreementExpired` or `InvalidUriLength`.
    function announce(uint64 id, bytes32 product, uint64 version, string calldata uri) external;

    /// @notice Ends the caller's proposal or accepted agreement, expired or not.
    /// @param id Number of the agreement.
    /// @param product Product of the release.
    /// @param version Packed semver of the release.
    /// @dev Emits `AgreementWithdrawn`. Only the broker may call it. Reverts with `AgreementUnknown`, `NotTheBroker`,
    /// `AgreementDiffers` or `WrongAgreementStatus`.
    function withdraw(uint64 id, bytes32 product, uint64 version) external;

    /// @notice Ends an accepted agreement, expired or not.
    /// @param id Number of the agreement.
    /// @param broker Broker of the agreement.
    /// @param product Product of the release.
    /// @param version Packed semver of the release.
    /// @param expiresAt Expiry of the agreement.
    /// @dev Emits `AgreementTerminated`. Only the vendor may call it. Reverts with `AgreementUnknown`, `NotTheVendor`,
    /// `AgreementDiffers` or `WrongAgreementStatus`.
    function terminate(uint64 id, address broker, bytes32 product, uint64 version, uint40 expiresAt) external;

    /// @notice The BlockOTA contract whose releases are served.
    /// @return account Address of BlockOTA. It never changes.
    function blockOta() external view returns (address account);

    /// @notice Number of agreements ever proposed. Equals the greatest id.
    /// @return count Number of agreements.
    function agreementCount() external view returns (uint64 count);

    /// @notice Returns one agreement.
    /// @param id Number of the agreement.
    /// @return record The agreement, or an empty record if it does not exist.
    function agreement(uint64 id) external view returns (Agreement memory record);

    /// @notice Returns the latest agreement that a broker proposed for a release, in any status.
    /// @param product Name of the product.
    /// @param version Packed semver.
    /// @param broker Account of the broker.
    /// @return record The agreement, or an empty record if there is none.
    function newestOf(
        bytes32 product,
        uint64 version,
        address broker
    ) external view returns (Agreement memory record);

    /// @notice Returns a page of all agreements in the order of their proposal. Those that await a decision have the
    /// status Proposed and are not expired.
    /// @param from First id of the page; 0 means 1.
    /// @param count Maximum number of records.
    /// @return records The page; shorter than `count` at the end of the list.
    function agreements(uint64 from, uint256 count) external view returns (Agreement[] memory records);

    /// @notice Returns a page of the replicas that serve a release now: accepted, announced, not expired, release not
    /// revoked. The agreement accepted last comes first.
    /// @param product Name of the product.
    /// @param version Packed semver.
    /// @param from Number of replicas to skip.
    /// @param count Maximum number of records.
    /// @return records The page; shorter than `count` at the end of the list.
    function replicas(
        bytes32 product,
        uint64 version,
        uint256 from,
        uint256 count
    ) external view returns (Agreement[] memory records);
}
