// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title The public record of a vendor's firmware releases
/// @notice A release maps ⟨product, version⟩ to the SHA-256 of an image. The owner (the vendor's Safe) writes, anyone
/// reads.
/// @dev Names of products and OEMs are 1 to 31 printable ASCII characters without spaces, left-aligned, zero-padded.
/// A version is packed semver (major 16 bits, minor 24, patch 24), compared as a number; 0 means "none". Times are Unix
/// seconds.
/// A pause blocks `publish` only: revoking and raising the floor must stay possible in an emergency.
/// Getters do not revert for unknown keys: they return an empty record (status `None`, version 0).
interface IBlockOTA {
    /// @notice State of a release. It changes from None to Active to Revoked, and never back.
    enum Status {
        None,
        Active,
        Revoked
    }

    /// @notice A release as passed to `publish`.
    /// @param product Name of the product.
    /// @param version Packed semver, greater than every version published for the product so far.
    /// @param sha256 SHA-256 of the image. For an image of one block it is also the digest in its CID.
    /// @param size Length of the image in bytes.
    /// @param loadAddress Address of the image's first byte in the product's flash.
    /// @param activeFrom Earliest time of installation. A past time (for example 0) is replaced by the block time.
    /// @param dagRoot Digest of the DAG root's CID for an image above 1 MiB (1,048,576 bytes), else zero.
    /// @param manifest SHA-256 of a JSON manifest that describes the release, or zero. Emitted, not stored.
    struct Release {
        bytes32 product;
        uint64 version;
        bytes32 sha256;
        uint32 size;
        uint32 loadAddress;
        uint40 activeFrom;
        bytes32 dagRoot;
        bytes32 manifest;
    }

    /// @notice A release as returned by the getters.
    /// @param product Name of the product.
    /// @param version Packed semver; 0 if the release does not exist.
    /// @param previous Version published before this one for the product; 0 for the first.
    /// @param sha256 SHA-256 of the image.
    /// @param size Length of the image in bytes.
    /// @param loadAddress Address of the image's first byte in flash.
    /// @param activeFrom Earliest time of installation.
    /// @param chipId Chip id that the product was paired with when the release was published.
    /// @param status Active or Revoked; None if the release does not exist.
    /// @param dagRoot Digest of the DAG root's CID for an image above 1 MiB, else zero.
    struct ReleaseRecord {
        bytes32 product;
        uint64 version;
        uint64 previous;
        bytes32 sha256;
        uint32 size;
        uint32 loadAddress;
        uint40 activeFrom;
        uint16 chipId;
        Status status;
        bytes32 dagRoot;
    }

    /// @notice A product as returned by the getters.
    /// @param product Name of the product.
    /// @param oem Name of the OEM. It is kept after unpairing.
    /// @param head Greatest version ever published, revoked or not; 0 if there is none.
    /// @param minimumVersion Floor: lower versions must not be published or installed.
    /// @param flashStart First address of the product's flash region.
    /// @param flashSize Length of the region in bytes.
    /// @param chipId Product id that the chip's bootloader reports.
    /// @param paired Whether releases can be published.
    struct ProductRecord {
        bytes32 product;
        bytes32 oem;
        uint64 head;
        uint64 minimumVersion;
        uint32 flashStart;
        uint32 flashSize;
        uint16 chipId;
        bool paired;
    }

    /// @notice A release was published.
    event ReleasePublished(
        bytes32 indexed product,
        uint64 indexed version,
        bytes32 indexed sha256,
        uint32 size,
        uint32 loadAddress,
        uint40 activeFrom,
        bytes32 dagRoot,
        bytes32 manifest
    );

    /// @notice A release was revoked permanently.
    event ReleaseRevoked(bytes32 indexed product, uint64 indexed version, bytes32 indexed sha256, string reason);

    /// @notice The floor of a product was raised.
    event MinimumVersionRaised(bytes32 indexed product, uint64 minimumVersion);

    /// @notice A product was paired with an OEM, or its pairing was replaced.
    event OemPaired(
        bytes32 indexed product,
        bytes32 indexed oem,
        uint16 chipId,
        uint32 flashStart,
        uint32 flashSize
    );

    /// @notice A product was unpaired. Nothing can be published for it until it is paired again.
    event OemUnpaired(bytes32 indexed product, bytes32 indexed oem);

    /// @notice `publish` was called with an empty list.
    error NothingToPublish();

    /// @notice The product is not paired with an OEM.
    error ProductNotPaired(bytes32 product);

    /// @notice The version is not greater than `head`, the greatest version published.
    error VersionNotNewer(bytes32 product, uint64 version, uint64 head);

    /// @notice The version is below the floor of the product.
    error VersionBelowMinimum(bytes32 product, uint64 version, uint64 minimumVersion);

    /// @notice The SHA-256 of the image is zero.
    error DigestMissing(bytes32 product, uint64 version);

    /// @notice The image is already recorded for the product, as `version`.
    error ImageAlreadyPublished(bytes32 product, bytes32 sha256, uint64 version);

    /// @notice The size of the image is zero.
    error ImageEmpty(bytes32 product, uint64 version);

    /// @notice The image does not fit into the flash region of the product.
    error ImageOutsideRegion(
        bytes32 product,
        uint32 loadAddress,
        uint32 size,
        uint32 flashStart,
        uint32 flashSize
    );

    /// @notice An image above 1 MiB has no DAG root, or an image of a single block has one.
    error DagRootMismatch(bytes32 product, uint64 version, uint32 size, bytes32 dagRoot);

    /// @notice The release does not exist.
    error ReleaseUnknown(bytes32 product, uint64 version);

    /// @notice The release has already been revoked.
    error ReleaseAlreadyRevoked(bytes32 product, uint64 version);

    /// @notice The requested floor is not greater than the current one. A floor cannot be lowered.
    error MinimumVersionNotRaised(bytes32 product, uint64 requested, uint64 minimumVersion);

    /// @notice The name is not 1 to 31 printable ASCII characters without spaces, left-aligned and zero-padded.
    error NameInvalid(bytes32 name);

    /// @notice The flash region is empty, or it ends above the 32-bit address space.
    error RegionInvalid(uint32 flashStart, uint32 flashSize);

    /// @notice Ownership cannot be renounced: without an owner, no release could be revoked.
    error RenouncingRefused();

    /// @notice The caller is neither the owner nor an owner of the Safe that owns the contract.
    error PausingNotAllowed(address account);

    /// @notice Publishes one or more releases atomically.
    /// @param releases The releases, in ascending version order for each product.
    /// @dev Emits `ReleasePublished` for each. Owner only. Reverts while paused. Reverts with `NothingToPublish`,
    /// `ProductNotPaired`, `VersionNotNewer`, `VersionBelowMinimum`, `DigestMissing`, `ImageAlreadyPublished`,
    /// `ImageEmpty`, `ImageOutsideRegion` or `DagRootMismatch`, checked in this order.
    function publish(Release[] calldata releases) external;

    /// @notice Revokes a release permanently. Its image cannot be published for the product again.
    /// @param product Name of the product.
    /// @param version Version to revoke.
    /// @param reason Human-readable reason. Emitted, not stored.
    /// @dev Emits `ReleaseRevoked`. Owner only. Reverts with `ReleaseUnknown` or `ReleaseAlreadyRevoked`.
    function revoke(bytes32 product, uint64 version, string calldata reason) external;

    /// @notice Raises the floor: lower versions must not be published or installed. A floor cannot be lowered.
    /// @param product Name of the product, which must be paired.
    /// @param version The new floor, which is the lowest allowed version. It may exceed every published version.
    /// @dev Emits `MinimumVersionRaised`. Owner only. Reverts with `ProductNotPaired` or `MinimumVersionNotRaised`.
    function setMinimumVersion(bytes32 product, uint64 version) external;

    /// @notice Pairs a product with an OEM, a chip and a flash region, or replaces its pairing.
    /// @param product Name of the product.
    /// @param oem Name of the OEM.
    /// @param chipId Product id that the chip's bootloader reports (for example 0x0410 for an STM32F103C8).
    /// @param flashStart First address of the flash region.
    /// @param flashSize Length of the region in bytes.
    /// @dev Emits `OemPaired`. Releases, head and floor are kept. Owner only. Reverts with `NameInvalid` or
    /// `RegionInvalid`.
    function pairOem(bytes32 product, bytes32 oem, uint16 chipId, uint32 flashStart, uint32 flashSize) external;

    /// @notice Unpairs a product. Its releases stay on record.
    /// @param product Name of the product.
    /// @dev Emits `OemUnpaired`. Owner only. Reverts with `ProductNotPaired`.
    function unpairOem(bytes32 product) external;

    /// @notice Stops publishing. Clients must not install anything while `paused()` returns true.
    /// @dev Emits OpenZeppelin's `Paused`. The owner may call it, and so may any single owner of the Safe that owns
    /// the contract: an emergency stop must not wait for signatures. Reverts with `PausingNotAllowed`.
    function pause() external;

    /// @notice Ends a pause.
    /// @dev Emits OpenZeppelin's `Unpaused`. Owner only: a single owner of the Safe can pause, but cannot resume.
    function resume() external;

    /// @notice Returns the greatest version of a product that is not revoked. It need not be active yet.
    /// @param product Name of the product.
    /// @return record The release, or an empty record if there is none.
    function latest(bytes32 product) external view returns (ReleaseRecord memory record);

    /// @notice Returns one release.
    /// @param product Name of the product.
    /// @param version Packed semver.
    /// @return record The release, or an empty record if there is none.
    function release(bytes32 product, uint64 version) external view returns (ReleaseRecord memory record);

    /// @notice Returns a page of the releases of a product, newest first, including revoked ones.
    /// @param product Name of the product.
    /// @param from First version of the page; 0 means the head. The next page starts with the `previous` of the last
    /// record; 0 there means that no page follows.
    /// @param count Maximum number of records.
    /// @return records The page; shorter than `count` at the end, and empty if `from` was never published.
    function history(
        bytes32 product,
        uint64 from,
        uint256 count
    ) external view returns (ReleaseRecord[] memory records);

    /// @notice Finds the release of a product by its image.
    /// @param product Name of the product.
    /// @param digest SHA-256 of the image.
    /// @return record The release, or an empty record if the image was never published for the product.
    function find(bytes32 product, bytes32 digest) external view returns (ReleaseRecord memory record);

    /// @notice Checks that an image was published as this version, is not revoked, and is active at the block time.
    /// @param product Name of the product.
    /// @param version Packed semver.
    /// @param digest SHA-256 of the image.
    /// @return authentic True if all conditions are met. Pairing, pause and floor are not checked here.
    function isAuthentic(bytes32 product, uint64 version, bytes32 digest) external view returns (bool authentic);

    /// @notice Returns the pairing, head and floor of a product.
    /// @param product Name of the product.
    /// @return record The product, or an empty record if it was never paired.
    function productRecord(bytes32 product) external view returns (ProductRecord memory record);

    /// @notice Returns a page of all products ever paired, in the order of their first pairing.
    /// @param from Zero-based index of the first record.
    /// @param count Maximum number of records.
    /// @return records The page; shorter than `count` at the end of the list.
    function products(uint256 from, uint256 count) external view returns (ProductRecord[] memory records);
}
