// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title The public record of a vendor's firmware releases
/// @notice A release is ⟨product, version⟩ → SHA-256 of its image. The owner (the vendor's Safe) writes, anyone reads.
/// @dev Names of products and OEMs are 1 to 31 printable ASCII characters without spaces, left-aligned, zero-padded.
/// A version is packed semver (major 16 bits, minor 24, patch 24), compared as a number; 0 means "none". Times are Unix
/// seconds.
/// Only `publish` stops while the contract is paused: revoking and raising the floor stay possible in an emergency.
/// No getter reverts for something unknown: it answers with an empty record (status `None`, version 0).
interface IBlockOTA {
    /// @notice A release's state. It moves from None to Active to Revoked and never back.
    enum Status {
        None,
        Active,
        Revoked
    }

    /// @notice A release as the vendor publishes it.
    /// @param product Name of the product.
    /// @param version Packed semver, greater than every version published for the product before.
    /// @param sha256 SHA-256 of the image, which is the digest of its CID as well when it fits one block.
    /// @param size Length of the image in bytes.
    /// @param loadAddress Address of the image's first byte in the product's flash.
    /// @param activeFrom Earliest time of installation; a time already past (0, say) means the block's own time.
    /// @param dagRoot Digest of the DAG root's CID for an image above 1 MiB (1,048,576 bytes), else zero.
    /// @param manifest SHA-256 of a JSON manifest that describes the release, or zero. Kept in the event only.
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

    /// @notice A release as it is read.
    /// @param product Name of the product.
    /// @param version Packed semver; 0 when there is no such release.
    /// @param previous Version published before this one for the product; 0 for the first.
    /// @param sha256 SHA-256 of the image.
    /// @param size Length of the image in bytes.
    /// @param loadAddress Address of the image's first byte in flash.
    /// @param activeFrom Earliest time of installation.
    /// @param chipId Chip the product was paired with when the release was published.
    /// @param status Active or Revoked; None when there is no such release.
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

    /// @notice A product as it is read.
    /// @param product Name of the product.
    /// @param oem Name of the OEM; kept after unpairing.
    /// @param head Version published last, which is the greatest ever published, revoked or not; 0 for none.
    /// @param minimumVersion Floor below which nothing may be installed.
    /// @param flashStart First address of the product's flash region.
    /// @param flashSize Length of the region in bytes.
    /// @param chipId Product id that the chip's bootloader answers.
    /// @param paired Whether releases can be published now.
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

    /// @notice A release was revoked for good, for the reason given.
    event ReleaseRevoked(bytes32 indexed product, uint64 indexed version, bytes32 indexed sha256, string reason);

    /// @notice A product's floor was raised.
    event MinimumVersionRaised(bytes32 indexed product, uint64 minimumVersion);

    /// @notice A product was paired, or its pairing changed.
    event OemPaired(
        bytes32 indexed product,
        bytes32 indexed oem,
        uint16 chipId,
        uint32 flashStart,
        uint32 flashSize
    );

    /// @notice A product's pairing was dissolved; nothing can be published for it until it is paired again.
    event OemUnpaired(bytes32 indexed product, bytes32 indexed oem);

    /// @notice `publish` was given no release.
    error NothingToPublish();

    /// @notice The product is not paired with an OEM.
    error ProductNotPaired(bytes32 product);

    /// @notice The version is not greater than `head`, the one published last.
    error VersionNotNewer(bytes32 product, uint64 version, uint64 head);

    /// @notice The version is below the product's floor.
    error VersionBelowMinimum(bytes32 product, uint64 version, uint64 minimumVersion);

    /// @notice The image's SHA-256 is missing.
    error DigestMissing(bytes32 product, uint64 version);

    /// @notice The same image is already recorded for the product, as `version`.
    error ImageAlreadyPublished(bytes32 product, bytes32 sha256, uint64 version);

    /// @notice The image has no bytes.
    error ImageEmpty(bytes32 product, uint64 version);

    /// @notice The image's address range leaves the product's flash region.
    error ImageOutsideRegion(
        bytes32 product,
        uint32 loadAddress,
        uint32 size,
        uint32 flashStart,
        uint32 flashSize
    );

    /// @notice An image above 1 MiB needs its DAG root; one up to 1 MiB is a single block and must come without.
    error DagRootMismatch(bytes32 product, uint64 version, uint32 size, bytes32 dagRoot);

    /// @notice The product has no such release.
    error ReleaseUnknown(bytes32 product, uint64 version);

    /// @notice The release is revoked already.
    error ReleaseAlreadyRevoked(bytes32 product, uint64 version);

    /// @notice The floor only rises: `requested` is not greater than the present one.
    error MinimumVersionNotRaised(bytes32 product, uint64 requested, uint64 minimumVersion);

    /// @notice Not 1 to 31 printable ASCII characters without spaces, left-aligned and zero-padded.
    error NameInvalid(bytes32 name);

    /// @notice The flash region is empty, or ends above the 32-bit address space.
    error RegionInvalid(uint32 flashStart, uint32 flashSize);

    /// @notice Ownership can be handed over, not given up: a record without an owner could never revoke.
    error RenouncingRefused();

    /// @notice Only the owner, or one of the owners of the Safe that owns the contract, may pause it.
    error PausingNotAllowed(address account);

    /// @notice Publishes one or several releases, all of them or none.
    /// @param releases The releases, oldest first where several are for one product.
    /// @dev Emits `ReleasePublished` for each. Owner only; refused while paused. Reverts with `NothingToPublish`,
    /// `ProductNotPaired`, `VersionNotNewer`, `VersionBelowMinimum`, `DigestMissing`, `ImageAlreadyPublished`,
    /// `ImageEmpty`, `ImageOutsideRegion` or `DagRootMismatch`, checked in this order.
    function publish(Release[] calldata releases) external;

    /// @notice Revokes a release for good; its image can never be published for that product again.
    /// @param product Name of the product.
    /// @param version Version to revoke.
    /// @param reason Sentence for people; kept in the event only.
    /// @dev Emits `ReleaseRevoked`. Owner only. Reverts with `ReleaseUnknown` or `ReleaseAlreadyRevoked`.
    function revoke(bytes32 product, uint64 version, string calldata reason) external;

    /// @notice Raises the floor below which nothing may be published or installed. It can never be lowered.
    /// @param product Name of the product, which must be paired.
    /// @param version The new floor: the least version still allowed. It may lie above every published version.
    /// @dev Emits `MinimumVersionRaised`. Owner only. Reverts with `ProductNotPaired` or `MinimumVersionNotRaised`.
    function setMinimumVersion(bytes32 product, uint64 version) external;

    /// @notice Pairs a product with its OEM, chip and flash region, or replaces these when it is paired already.
    /// @param product Name of the product.
    /// @param oem Name of the OEM.
    /// @param chipId Product id that the chip's bootloader answers (0x0410 for an STM32F103C8, say).
    /// @param flashStart First address of the region that images may fill.
    /// @param flashSize Length of the region in bytes.
    /// @dev Emits `OemPaired`. Releases, head and floor are kept. Owner only. Reverts with `NameInvalid` or
    /// `RegionInvalid`.
    function pairOem(bytes32 product, bytes32 oem, uint16 chipId, uint32 flashStart, uint32 flashSize) external;

    /// @notice Dissolves a product's pairing. Its releases stay on record.
    /// @param product Name of the product.
    /// @dev Emits `OemUnpaired`. Owner only. Reverts with `ProductNotPaired`.
    function unpairOem(bytes32 product) external;

    /// @notice Stops publishing, and tells every reader to install nothing (`paused()` answers true).
    /// @dev Emits OpenZeppelin's `Paused`. The owner may, and when that is a Safe, each of its owners alone: an emergency
    /// stop must not wait for signatures. Reverts with `PausingNotAllowed`.
    function pause() external;

    /// @notice Allows publishing and installing again.
    /// @dev Emits OpenZeppelin's `Unpaused`. Owner only: a single owner of the Safe may stop, not start.
    function resume() external;

    /// @notice The greatest version of a product that is not revoked, active yet or not.
    /// @param product Name of the product.
    /// @return record The release, or an empty record when there is none.
    function latest(bytes32 product) external view returns (ReleaseRecord memory record);

    /// @notice One release.
    /// @param product Name of the product.
    /// @param version Packed semver.
    /// @return record The release, or an empty record when there is none.
    function release(bytes32 product, uint64 version) external view returns (ReleaseRecord memory record);

    /// @notice A page of a product's releases, newest first, revoked ones among them.
    /// @param product Name of the product.
    /// @param from Version to begin with, included; 0 means the head. The next page begins with the `previous` of this
    /// page's last record, unless that is 0: then there is none.
    /// @param count Greatest number of records wanted.
    /// @return records As many as there are, `count` at most; none when `from` was never published.
    function history(
        bytes32 product,
        uint64 from,
        uint256 count
    ) external view returns (ReleaseRecord[] memory records);

    /// @notice Which release of a product an image is.
    /// @param product Name of the product.
    /// @param digest SHA-256 of the image.
    /// @return record The release, or an empty record when the image was never published for the product.
    function find(bytes32 product, bytes32 digest) external view returns (ReleaseRecord memory record);

    /// @notice Whether an image is what was published as that version, not revoked, and active at the block's time.
    /// @param product Name of the product.
    /// @param version Packed semver.
    /// @param digest SHA-256 of the image.
    /// @return authentic True when all of it holds. Pairing, pause and floor are asked for separately.
    function isAuthentic(bytes32 product, uint64 version, bytes32 digest) external view returns (bool authentic);

    /// @notice A product's pairing, head and floor.
    /// @param product Name of the product.
    /// @return record The product, or an empty record when it was never paired.
    function productRecord(bytes32 product) external view returns (ProductRecord memory record);

    /// @notice A page of the products ever paired, in the order of their first pairing.
    /// @param from Index of the first one wanted, beginning with 0.
    /// @param count Greatest number of records wanted.
    /// @return records As many as there are, `count` at most.
    function products(uint256 from, uint256 count) external view returns (ProductRecord[] memory records);
}
