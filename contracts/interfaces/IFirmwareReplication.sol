// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Agreements between the vendor and brokers that serve copies of its releases
/// @notice A broker proposes to serve a release until some time; the vendor accepts or declines; the broker then announces
/// where its replica is. Whoever downloads from there checks the bytes against `IBlockOTA`: a replica is not trusted.
/// @dev The vendor is whoever owns BlockOTA at that moment (its Safe). A broker is any account that proposes.
/// Expiry is never stored: an agreement is expired from its `expiresAt` on, whatever its status. Then it serves nothing,
/// and can be neither accepted nor announced. Likewise a release that BlockOTA revoked has no replicas.
/// Ids are given in sequence from 1; 0 means "none". Versions are packed semver, times Unix seconds, as in `IBlockOTA`.
/// No getter reverts for something unknown: it answers with an empty record (status `None`, id 0) or an empty list.
interface IFirmwareReplication {
    /// @notice An agreement's status. Proposed becomes Accepted, Declined or Withdrawn; Accepted becomes Withdrawn or
    /// Terminated; the last three are final.
    enum Status {
        None,
        Proposed,
        Accepted,
        Declined,
        Withdrawn,
        Terminated
    }

    /// @notice An agreement as it is read.
    /// @param id Its number; 0 when there is no such agreement.
    /// @param broker Who proposed it, and serves.
    /// @param expiresAt First second at which it counts no more.
    /// @param status How far it came; expiry is not part of it.
    /// @param product Name of the product.
    /// @param version Packed semver of the release.
    /// @param uri Where the replica is; empty until announced, and kept after the end.
    struct Agreement {
        uint64 id;
        address broker;
        uint40 expiresAt;
        Status status;
        bytes32 product;
        uint64 version;
        string uri;
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

    /// @notice A broker told where its replica is, first or anew.
    event ReplicaAnnounced(
        uint64 indexed id,
        bytes32 indexed product,
        address indexed broker,
        uint64 version,
        string uri
    );

    /// @notice A broker ended its proposal or agreement, or proposed anew after it had expired.
    event AgreementWithdrawn(uint64 indexed id, bytes32 indexed product, address indexed broker, uint64 version);

    /// @notice The vendor ended an agreement.
    event AgreementTerminated(uint64 indexed id, bytes32 indexed product, address indexed broker, uint64 version);

    /// @notice There is no contract at the address given for BlockOTA.
    error NotAContract(address account);

    /// @notice Only the vendor, BlockOTA's owner, may do this.
    error NotTheVendor(address caller, address vendor);

    /// @notice Only the agreement's broker may do this.
    error NotTheBroker(uint64 id, address caller, address broker);

    /// @notice There is no such agreement.
    error AgreementUnknown(uint64 id);

    /// @notice The agreement's status does not allow this.
    error AgreementStatusUnfit(uint64 id, Status status);

    /// @notice The agreement's time is over.
    error AgreementExpired(uint64 id, uint40 expiresAt);

    /// @notice The broker has a proposal or agreement for this release already, and it has not expired.
    error AgreementStillOpen(uint64 id, uint40 expiresAt);

    /// @notice An agreement must end after the present block's time.
    error ExpiryNotAhead(uint40 expiresAt, uint256 blockTime);

    /// @notice BlockOTA has no such release.
    error ReleaseUnknown(bytes32 product, uint64 version);

    /// @notice The vendor revoked the release; it is not to be served.
    error ReleaseRevokedAlready(bytes32 product, uint64 version);

    /// @notice A URI has 1 to `limit` bytes.
    error UriLengthInvalid(uint256 length, uint256 limit);

    /// @notice Proposes to serve a release. Anyone may.
    /// @param product Name of the product.
    /// @param version Packed semver of a release on record that is not revoked, active yet or not.
    /// @param expiresAt First second at which the agreement shall count no more.
    /// @return id The agreement's number.
    /// @dev Emits `AgreementProposed`, and before it `AgreementWithdrawn` for the same broker's expired one, if any.
    /// Reverts with `ExpiryNotAhead`, `ReleaseUnknown`, `ReleaseRevokedAlready` or `AgreementStillOpen`.
    function propose(bytes32 product, uint64 version, uint40 expiresAt) external returns (uint64 id);

    /// @notice Accepts a proposal.
    /// @param id The agreement's number.
    /// @dev Emits `AgreementAccepted`. Vendor only. Reverts with `AgreementUnknown`, `NotTheVendor`,
    /// `AgreementStatusUnfit`, `AgreementExpired` or `ReleaseRevokedAlready`.
    function accept(uint64 id) external;

    /// @notice Declines a proposal.
    /// @param id The agreement's number.
    /// @dev Emits `AgreementDeclined`. Vendor only. Reverts with `AgreementUnknown`, `NotTheVendor` or
    /// `AgreementStatusUnfit`.
    function decline(uint64 id) external;

    /// @notice Tells where the replica of an accepted agreement is, first or because it moved.
    /// @param id The agreement's number.
    /// @param uri Where a gateway finds it. What it says is for the reader to check.
    /// @dev Emits `ReplicaAnnounced`. The agreement's broker only. Reverts with `AgreementUnknown`, `NotTheBroker`,
    /// `AgreementStatusUnfit`, `AgreementExpired` or `UriLengthInvalid`.
    function announce(uint64 id, string calldata uri) external;

    /// @notice Ends one's own proposal or accepted agreement, expired or not.
    /// @param id The agreement's number.
    /// @dev Emits `AgreementWithdrawn`. The agreement's broker only. Reverts with `AgreementUnknown`, `NotTheBroker` or
    /// `AgreementStatusUnfit`.
    function withdraw(uint64 id) external;

    /// @notice Ends an accepted agreement, expired or not.
    /// @param id The agreement's number.
    /// @dev Emits `AgreementTerminated`. Vendor only. Reverts with `AgreementUnknown`, `NotTheVendor` or
    /// `AgreementStatusUnfit`.
    function terminate(uint64 id) external;

    /// @notice The record of releases that agreements are about.
    /// @return account Address of BlockOTA; it never changes.
    function blockOta() external view returns (address account);

    /// @notice How many agreements were ever proposed, which is the greatest id.
    /// @return count Their number.
    function agreementCount() external view returns (uint64 count);

    /// @notice One agreement.
    /// @param id Its number.
    /// @return record The agreement, or an empty record when there is none.
    function agreement(uint64 id) external view returns (Agreement memory record);

    /// @notice The agreement that a broker proposed last for a release, in whatever status.
    /// @param product Name of the product.
    /// @param version Packed semver.
    /// @param broker Who proposed it.
    /// @return record The agreement, or an empty record when there is none.
    function newestOf(
        bytes32 product,
        uint64 version,
        address broker
    ) external view returns (Agreement memory record);

    /// @notice A page of all agreements, in the order they were proposed. Those waiting for a decision have the status
    /// Proposed and are not expired.
    /// @param from Id to begin with, included; 0 means 1.
    /// @param count Greatest number of records wanted.
    /// @return records As many as there are, `count` at most.
    function agreements(uint64 from, uint256 count) external view returns (Agreement[] memory records);

    /// @notice A page of the replicas that serve a release now: accepted, announced, not expired, release not revoked.
    /// The agreement accepted last comes first.
    /// @param product Name of the product.
    /// @param version Packed semver.
    /// @param from How many of those to leave out before the first one wanted.
    /// @param count Greatest number of records wanted.
    /// @return records As many as there are, `count` at most.
    function replicas(
        bytes32 product,
        uint64 version,
        uint256 from,
        uint256 count
    ) external view returns (Agreement[] memory records);
}
