// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {IBlockOTA} from "./interfaces/IBlockOTA.sol";
import {IOwners} from "./interfaces/IOwners.sol";

/// @title The public record of a vendor's firmware releases
/// @notice See `IBlockOTA`, which is the specification.
/// @dev Storage: slot 0 paused and owner (Pausable is the first base so that they share a slot), 1 pending owner,
/// 2 products, 3 product names. A release writes two new words (digest and facts), and a third above 1 MiB (DAG root).
contract BlockOTA is IBlockOTA, Pausable, Ownable2Step {
    /// @dev The first six members share one word. `head` is the greatest version ever published: a version that is not
    /// greater is a repetition or a downgrade. Layout of a word of facts, least significant bits first: version 64
    /// bits, previous 64, size 32, load address 32, active from 40, chip id 16, status 8. The facts are packed
    /// explicitly, because the compiler would write the word once for each member.
    struct Product {
        uint64 head;
        uint64 minimumVersion;
        uint32 flashStart;
        uint32 flashSize;
        uint16 chipId;
        bool paired;
        bytes32 oem;
        mapping(uint64 version => bytes32 sha256) digests;
        mapping(bytes32 sha256 => uint256 word) facts;
        mapping(bytes32 sha256 => bytes32 digest) dagRoots;
    }

    /// @dev Images up to this size are one block (UnixFS profile unixfs-v1-2025), whose CID contains their SHA-256.
    uint32 private constant SINGLE_BLOCK_LIMIT = 1 << 20;

    uint256 private constant ACTIVE = uint256(Status.Active) << 248;
    uint256 private constant REVOKED = uint256(Status.Revoked) << 248;

    mapping(bytes32 product => Product) private _products;
    bytes32[] private _productNames;

    /// @param initialOwner The vendor's Safe.
    constructor(address initialOwner) Ownable(initialOwner) {}

    /// @inheritdoc IBlockOTA
    function publish(Release[] calldata releases) external onlyOwner whenNotPaused {
        require(releases.length != 0, NothingToPublish());
        for (uint256 i = 0; i < releases.length; ++i) {
            _publish(releases[i]);
        }
    }

    /// @inheritdoc IBlockOTA
    function revoke(bytes32 product, uint64 version, string calldata reason) external onlyOwner {
        bytes32 digest = _products[product].digests[version];
        Status status = find(product, digest).status;
        require(status != Status.None, ReleaseUnknown(product, version));
        require(status != Status.Revoked, ReleaseAlreadyRevoked(product, version));

        _products[product].facts[digest] ^= ACTIVE ^ REVOKED;

        emit ReleaseRevoked(product, version, digest, reason);
    }

    /// @inheritdoc IBlockOTA
    function setMinimumVersion(bytes32 product, uint64 version) external onlyOwner {
        Product storage target = _products[product];
        require(target.paired, ProductNotPaired(product));
        require(version > target.minimumVersion, MinimumVersionNotRaised(product, version, target.minimumVersion));

        target.minimumVersion = version;

        emit MinimumVersionRaised(product, version);
    }

    /// @inheritdoc IBlockOTA
    function pairOem(
        bytes32 product,
        bytes32 oem,
        uint16 chipId,
        uint32 flashStart,
        uint32 flashSize
    ) external onlyOwner {
        require(_isName(product), NameInvalid(product));
        require(_isName(oem), NameInvalid(oem));
        require(flashSize != 0, RegionInvalid(flashStart, flashSize));
        require(uint256(flashStart) + flashSize <= 1 << 32, RegionInvalid(flashStart, flashSize));

        Product storage target = _products[product];
        if (target.oem == 0) _productNames.push(product);
        target.oem = oem;
        target.flashStart = flashStart;
        target.flashSize = flashSize;
        target.chipId = chipId;
        target.paired = true;

        emit OemPaired(product, oem, chipId, flashStart, flashSize);
    }

    /// @inheritdoc IBlockOTA
    function unpairOem(bytes32 product) external onlyOwner {
        Product storage target = _products[product];
        require(target.paired, ProductNotPaired(product));

        target.paired = false;

        emit OemUnpaired(product, target.oem);
    }

    /// @inheritdoc IBlockOTA
    function pause() external {
        require(msg.sender == owner() || _isOwnerOfSafe(msg.sender), PausingNotAllowed(msg.sender));
        _pause();
    }

    /// @inheritdoc IBlockOTA
    function resume() external onlyOwner {
        _unpause();
    }

    /// @notice Always reverts: the contract must have an owner.
    /// @dev Reverts with `RenouncingRefused` for every caller.
    function renounceOwnership() public pure override {
        revert RenouncingRefused();
    }

    /// @inheritdoc IBlockOTA
    function latest(bytes32 product) external view returns (ReleaseRecord memory record) {
        record = release(product, _products[product].head);
        while (record.status == Status.Revoked) record = release(product, record.previous);
    }

    /// @inheritdoc IBlockOTA
    function release(bytes32 product, uint64 version) public view returns (ReleaseRecord memory) {
        return find(product, _products[product].digests[version]);
    }

    /// @inheritdoc IBlockOTA
    function history(
        bytes32 product,
        uint64 from,
        uint256 count
    ) external view returns (ReleaseRecord[] memory records) {
        uint64 first = from == 0 ? _products[product].head : from;
        records = new ReleaseRecord[](_chainLength(product, first, count));
        for (uint256 i = 0; i < records.length; ++i) {
            records[i] = release(product, first);
            first = records[i].previous;
        }
    }

    /// @inheritdoc IBlockOTA
    function find(bytes32 product, bytes32 digest) public view returns (ReleaseRecord memory record) {
        uint256 word = _products[product].facts[digest];
        if (word == 0) return record;
        record.product = product;
        record.version = uint64(word);
        record.previous = uint64(word >> 64);
        record.sha256 = digest;
        record.size = uint32(word >> 128);
        record.loadAddress = uint32(word >> 160);
        record.activeFrom = uint40(word >> 192);
        record.chipId = uint16(word >> 232);
        record.status = Status(word >> 248);
        record.dagRoot = _products[product].dagRoots[digest];
    }

    /// @inheritdoc IBlockOTA
    function isAuthentic(bytes32 product, uint64 version, bytes32 digest) external view returns (bool) {
        ReleaseRecord memory record = find(product, digest);
        return record.status == Status.Active && record.version == version && record.activeFrom <= block.timestamp;
    }

    /// @inheritdoc IBlockOTA
    function productRecord(bytes32 product) public view returns (ProductRecord memory record) {
        Product storage stored = _products[product];
        if (stored.oem == 0) return record;
        record.product = product;
        record.oem = stored.oem;
        record.head = stored.head;
        record.minimumVersion = stored.minimumVersion;
        record.flashStart = stored.flashStart;
        record.flashSize = stored.flashSize;
        record.chipId = stored.chipId;
        record.paired = stored.paired;
    }

    /// @inheritdoc IBlockOTA
    function products(uint256 from, uint256 count) external view returns (ProductRecord[] memory records) {
        uint256 total = _productNames.length;
        uint256 left = from < total ? total - from : 0;
        records = new ProductRecord[](count < left ? count : left);
        for (uint256 i = 0; i < records.length; ++i) {
            records[i] = productRecord(_productNames[from + i]);
        }
    }

    /// @dev Checks, records and emits one release.
    function _publish(Release memory item) private {
        Product storage target = _products[item.product];
        _requireNew(item, target);
        _requireFits(item, target);

        uint40 activeFrom = item.activeFrom > block.timestamp ? item.activeFrom : uint40(block.timestamp);
        target.facts[item.sha256] =
            uint256(item.version) |
            (uint256(target.head) << 64) |
            (uint256(item.size) << 128) |
            (uint256(item.loadAddress) << 160) |
            (uint256(activeFrom) << 192) |
            (uint256(target.chipId) << 232) |
            ACTIVE;
        target.digests[item.version] = item.sha256;
        target.head = item.version;
        if (item.dagRoot != 0) target.dagRoots[item.sha256] = item.dagRoot;

        emit ReleasePublished(
            item.product,
            item.version,
            item.sha256,
            item.size,
            item.loadAddress,
            activeFrom,
            item.dagRoot,
            item.manifest
        );
    }

    /// @dev Requires a paired product, a version above `head` and not below the floor, and an image whose digest is not
    /// zero and not recorded yet.
    function _requireNew(Release memory item, Product storage target) private view {
        (bytes32 product, uint64 version) = (item.product, item.version);
        uint256 word = target.facts[item.sha256];
        require(target.paired, ProductNotPaired(product));
        require(version > target.head, VersionNotNewer(product, version, target.head));
        require(version >= target.minimumVersion, VersionBelowMinimum(product, version, target.minimumVersion));
        require(item.sha256 != 0, DigestMissing(product, version));
        require(word == 0, ImageAlreadyPublished(product, item.sha256, uint64(word)));
    }

    /// @dev Requires an image inside the flash region and a DAG root exactly for images of several blocks. The sums are
    /// computed in 256 bits because an end address may exceed 32 bits.
    function _requireFits(Release memory item, Product storage target) private view {
        (bytes32 product, uint32 start, uint32 size) = (item.product, item.loadAddress, item.size);
        (uint32 flashStart, uint32 flashSize) = (target.flashStart, target.flashSize);
        bool inside = start >= flashStart && uint256(start) + size <= uint256(flashStart) + flashSize;
        bool severalBlocks = size > SINGLE_BLOCK_LIMIT;
        require(size != 0, ImageEmpty(product, item.version));
        require(inside, ImageOutsideRegion(product, start, size, flashStart, flashSize));
        require(severalBlocks == (item.dagRoot != 0), DagRootMismatch(product, item.version, size, item.dagRoot));
    }

    /// @dev Asks the owner contract whether `account` is one of its owners. Returns false if the owner has no code or
    /// reverts. Reverts if the answer is not a bool.
    function _isOwnerOfSafe(address account) private view returns (bool) {
        address safe = owner();
        if (safe.code.length == 0) return false;
        try IOwners(safe).isOwner(account) returns (bool answer) {
            return answer;
        } catch {
            return false;
        }
    }

    /// @dev Counts the releases from `version` back to the first one, up to `limit`.
    function _chainLength(bytes32 product, uint64 version, uint256 limit) private view returns (uint256 length) {
        while (length < limit) {
            ReleaseRecord memory record = release(product, version);
            if (record.version == 0) break;
            version = record.previous;
            ++length;
        }
    }

    /// @dev True for 1 to 31 characters from "!" to "~", followed by zero bytes only.
    function _isName(bytes32 text) private pure returns (bool) {
        uint256 length = 0;
        while (length < 32 && text[length] >= "!" && text[length] <= "~") ++length;
        return length != 0 && length != 32 && text << (8 * length) == 0;
    }
}
