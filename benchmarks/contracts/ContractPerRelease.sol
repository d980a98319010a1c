// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title One release
/// @notice See `ContractPerRelease`.
contract FirmwareUpdate {
    address public immutable vendor = msg.sender;
    bytes32 public immutable sha256Digest;
    string public version;
    string public uri;

    constructor(string memory version_, string memory uri_, bytes32 digest) {
        version = version_;
        uri = uri_;
        sha256Digest = digest;
    }
}

/// @title A vendor's list of releases, each a contract of its own
/// @notice A minimal reconstruction of how a published framework records releases: the vendor creates one contract for
/// each release. The contract is only for measurements; do not deploy it.
contract ContractPerRelease is Ownable {
    FirmwareUpdate[] private _updates;

    constructor(address initialOwner) Ownable(initialOwner) {}

    function upload(string calldata version, string calldata uri, bytes32 digest) external onlyOwner {
        _updates.push(new FirmwareUpdate(version, uri, digest));
    }

    function newest() external view returns (FirmwareUpdate) {
        return _updates[_updates.length - 1];
    }
}
